"""Run an exported network on inputs, in a process that has torch or onnxruntime, and nothing of tickdsl.

    python run_portable.py FILE FOLDER [MEAN STD]

FILE: a .pt2 or .onnx file. FOLDER: holds the inputs in order, images uint8 [N, C, H, W], numbers or noise float32
[N, …] or tokens int64 [N, T], in `input0.pt` and so on for a .pt2 file and in `input0.npy` for an .onnx file; gets the
file's outputs, float32 [N, …], as a list in `outputs.pt` or as arrays in `outputs.npz`. MEAN, STD: JSON lists, for
files that do not normalise images themselves. If FOLDER has a `names.json`, a list, the inputs are passed by these
names.

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


def input_files(folder: Path) -> list[Path]:
    """The files of the inputs, in order."""
    return sorted(folder.glob("input*.*"), key=lambda path: int(path.stem.removeprefix("input")))


def input_names(folder: Path) -> list[str]:
    """The names of the inputs, in order; empty if they have none."""
    path = folder / "names.json"
    names: list[str] = json.loads(path.read_text()) if path.exists() else []
    return names


def run_pt2(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run a program of torch.export."""
    import torch

    inputs = [torch.load(path, weights_only=True, mmap=True) for path in input_files(folder)]
    network, names = torch.export.load(file).module(), input_names(folder)
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def run(part: slice) -> list[torch.Tensor]:
        given = [tensor[part] for tensor in inputs]
        if names:
            outputs = network(**dict(zip(names, given, strict=True)))
        else:
            outputs = network(*((each / 255 - shift) / scale if each.dtype == torch.uint8 else each for each in given))
        return [leaf for leaf in torch.utils._pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]

    with torch.no_grad():
        parts = [run(part) for part in batches(len(inputs[0]))]
    torch.save([torch.cat(tensors).float() for tensors in zip(*parts, strict=True)], folder / "outputs.pt")


def run_onnx(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run an ONNX file."""
    import numpy as np
    import onnxruntime

    inputs = [np.load(path, mmap_mode="r") for path in input_files(folder)]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    taken = [known.name for known in session.get_inputs()]
    names = input_names(folder) or taken
    shift, scale = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std))

    def prepared(part: np.ndarray) -> np.ndarray:
        if part.dtype != np.uint8:
            return part
        return (part.astype(np.float32) / np.float32(255) - shift) / scale

    by_name = {name: array for name, array in zip(names, inputs, strict=True) if name in taken}
    parts = [
        session.run(None, {name: prepared(array[part]) for name, array in by_name.items()})
        for part in batches(len(inputs[0]))
    ]
    np.savez(
        folder / "outputs.npz", *(np.concatenate(arrays).astype(np.float32) for arrays in zip(*parts, strict=True))
    )


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the file.
    sys.modules["tickdsl"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
