"""What changes the masks or the weights of a network between the steps of its training, beside the optimiser.

`protocol` defines the interface; there is one module per kind: `gradual` (gradual pruning), `evolving` (SET, RigL,
SNFS), `zeroing` (soft filter pruning) and `penalty` (growing regularisation).
"""
