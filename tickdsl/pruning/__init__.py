"""Pruning: criteria, amounts, scope, and the selection of the units to remove."""
