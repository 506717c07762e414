"""One optimiser step: loss, optimiser, masks, and the CUDA graphs, compilation and sparse layers that speed it up."""
