"""Which channels of which operators belong together: from recorded operators to channel groups and blocks."""
