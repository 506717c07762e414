"""Channel coupling: from recorded operators to channel groups and removable blocks."""
