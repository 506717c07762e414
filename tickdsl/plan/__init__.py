"""Resolved plans, and the steps they lower to. Imports no torch."""
