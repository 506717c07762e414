"""The bench that runs plans."""

from command_line import bench

__all__ = ["bench"]
