"""Histograms of trained weights, read from the files of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import safe_open
from tensorboardX import summary
from tensorboardX.proto.summary_pb2 import Summary

_BINS = 64
_MAX_WEIGHTS = 1 << 18  # per layer; larger layers are subsampled with a fixed stride
_READABLE = frozenset({"F16", "F32", "F64"})


def histograms(folder: Path) -> Iterator[Summary]:
    """A histogram summary of the nonzero (unmasked) weights of each layer of the result in `folder`."""
    path = folder / "weights.safetensors"
    if not path.exists():
        return
    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            tensor_slice = file.get_slice(name)
            if (
                not name.endswith(".weight")
                or len(tensor_slice.get_shape()) < 2
                or tensor_slice.get_dtype() not in _READABLE
            ):
                continue
            values = file.get_tensor(name).ravel()
            kept = values[:: max(1, values.size // _MAX_WEIGHTS)]
            kept = kept[(kept != 0) & np.isfinite(kept)]
            if kept.size:
                yield summary.histogram(f"weights/{name.removesuffix('.weight')}", kept, bins=_BINS)
