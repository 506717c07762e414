"""Data sets: finding their files, reading them, and making training batches."""
