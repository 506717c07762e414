"""Fixtures: a harness that runs plans, and processes that are killed after the test."""

from command_line import harness, processes

__all__ = ["harness", "processes"]
