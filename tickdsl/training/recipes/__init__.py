"""How a network is trained: length, optimiser and learning rates, step by step."""
