"""Resolve a syntax tree to a `Plan`: names, defaults, sweeps and arms."""
