"""The plan language: text to AST to Plan. Imports no torch."""
