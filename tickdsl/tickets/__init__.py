"""Tickets outside the store: taken from a run, written to a file, read, rebuilt and verified."""
