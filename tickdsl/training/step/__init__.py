"""One optimiser step: the loss, the optimiser, masks and what makes it fast."""
