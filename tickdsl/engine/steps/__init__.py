"""A step to work: one function per operation."""
