"""Tracing: runs a network on the meta device and records its operators."""
