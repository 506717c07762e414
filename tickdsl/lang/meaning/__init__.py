"""Syntax tree to `Plan`: names, defaults, sweeps and arms resolved."""
