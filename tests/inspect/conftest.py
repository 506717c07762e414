"""Fixture: a harness that runs plans."""

from command_line import harness

__all__ = ["harness"]
