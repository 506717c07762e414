"""Files of named arrays, in each of the forms that `data arrays` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def write_arrays(folder: Path, form: str, held: dict[str, np.ndarray[Any, Any]]) -> Path:
    """Write the arrays below `folder`: as one `npz` or `safetensors` file, or (any other form) a folder of `.npy`."""
    path = folder / f"data.{form}"
    if form == "npz":
        np.savez(path, **held)  # type: ignore[arg-type]
    elif form == "safetensors":
        save_file({name: np.ascontiguousarray(array) for name, array in held.items()}, path)
    else:
        path.mkdir()
        for name, array in held.items():
            np.save(path / name, array)
    return path
