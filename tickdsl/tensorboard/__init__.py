"""Writes a run as TensorBoard event files. Reads records only; imports no torch."""

from tickdsl.tensorboard.writer import TensorBoardWriter

__all__ = ["TensorBoardWriter"]
