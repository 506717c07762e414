"""Run an exported network on inputs, in a process that has torch or onnxruntime, and nothing of tickdsl.

    python run_portable.py FILE FOLDER [MEAN STD]

FILE: a .pt2 or .onnx file. FOLDER: holds the inputs, images uint8 [N, C, H, W], numbers float32 of that shape or tokens
int64 [N, T], in `inputs.pt` for a .pt2 file and in `inputs.npy` for an .onnx file; gets the file's outputs, float32
[N, …], as a list in `outputs.pt` or as arrays in `outputs.npz`. MEAN, STD: JSON lists, for files that do not normalise
images themselves.

The first input is run alone, the others in batches: a network must work for both. This is a script, not a module.
"""

import json
import sys
from pathlib import Path

BATCH = 100


def main(file: str, folder: str, mean: str = "[0]", std: str = "[1]") -> None:
    """Run the file, and write its outputs."""
    run = run_pt2 if file.endswith(".pt2") else run_onnx
    run(file, Path(folder), json.loads(mean), json.loads(std))


def batches(count: int) -> list[slice]:
    """The first input, and batches of the others, as slices."""
    return [slice(0, 1), *(slice(first, min(first + BATCH, count)) for first in range(1, count, BATCH))]


def run_pt2(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run a program of torch.export."""
    import torch

    inputs = torch.load(folder / "inputs.pt", weights_only=True, mmap=True)
    network = torch.export.load(file).module()
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def run(part: torch.Tensor) -> list[torch.Tensor]:
        outputs = network((part / 255 - shift) / scale if part.dtype == torch.uint8 else part)
        return [leaf for leaf in torch.utils._pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]

    with torch.no_grad():
        parts = [run(inputs[part]) for part in batches(len(inputs))]
    torch.save([torch.cat(tensors).float() for tensors in zip(*parts, strict=True)], folder / "outputs.pt")


def run_onnx(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run an ONNX file."""
    import numpy as np
    import onnxruntime

    inputs = np.load(folder / "inputs.npy", mmap_mode="r")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shift, scale = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std))

    def prepared(part: np.ndarray) -> np.ndarray:
        if part.dtype != np.uint8:
            return part
        return (part.astype(np.float32) / np.float32(255) - shift) / scale

    parts = [session.run(None, {name: prepared(inputs[part])}) for part in batches(len(inputs))]
    np.savez(
        folder / "outputs.npz", *(np.concatenate(arrays).astype(np.float32) for arrays in zip(*parts, strict=True))
    )


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the file.
    sys.modules["tickdsl"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
