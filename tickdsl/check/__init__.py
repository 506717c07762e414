"""Findings above the grammar: one module per family."""
