"""Compaction: builds the smaller network from a dense network and a structure, and verifies it."""
