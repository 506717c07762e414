"""The model graph: which channels belong together, what is left, and physical removal."""
