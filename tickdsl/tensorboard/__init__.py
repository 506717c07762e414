"""A run as TensorBoard shows it. Reads records, imports no torch."""

from tickdsl.tensorboard.board import Board

__all__ = ["Board"]
