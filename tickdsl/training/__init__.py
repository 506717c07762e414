"""Networks, data, recipes and the training loop. Knows no plans."""
