"""Training recipes: length, optimiser settings and the learning rate of every step."""
