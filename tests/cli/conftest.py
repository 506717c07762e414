"""The bench that runs plans, and processes that end with their test."""

from command_line import bench, processes

__all__ = ["bench", "processes"]
