"""Text to syntax tree; what is wrong with the text, and the way on past it."""
