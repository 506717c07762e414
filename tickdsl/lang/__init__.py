"""The plan language: parses text into a syntax tree and resolves it to a `Plan`. Does not import torch."""
