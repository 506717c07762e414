"""A harness that runs plans, and processes that end with their test."""

from command_line import harness, processes

__all__ = ["harness", "processes"]
