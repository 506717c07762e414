"""Writes a run as TensorBoard event files. Reads records only; imports no torch."""

import sys


def _import_tensorboardx() -> None:
    """Import tensorboardX, which loads torch if it can, only to know the type of its tensors: not if that is new."""
    if "torch" in sys.modules:
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails until this is taken back
    try:
        import tensorboardX  # noqa: F401
    finally:
        del sys.modules["torch"]


_import_tensorboardx()

from tickdsl.tensorboard.writer import TensorBoardWriter  # noqa: E402

__all__ = ["TensorBoardWriter"]
