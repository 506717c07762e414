"""Data sets: where their bytes lie, what is read from them, and the batches trainings take."""
