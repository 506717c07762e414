"""The grammar of plans as data."""
