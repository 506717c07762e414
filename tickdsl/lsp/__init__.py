"""The language server: diagnostics, formatting, hover, completion, definitions and rename. Does not import torch."""
