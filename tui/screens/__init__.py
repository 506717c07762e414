"""The five screens and what opens over them."""
