"""Run a step: one function per operation."""
