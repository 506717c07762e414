"""A run as TensorBoard shows it. Reads records, imports no torch."""

from tickdsl.tensorboard.writer import TensorBoardWriter

__all__ = ["TensorBoardWriter"]
