"""The language in an editor: findings, layout, hover, completion, definitions and renaming over LSP. No torch."""
