"""Runs a network without data, and records the operators that it consists of."""
