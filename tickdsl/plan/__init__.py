"""What a plan means, and the steps it lowers to. Imports no torch."""
