"""Parse plan text into syntax trees, with error recovery."""
