"""Run an exported network on images, in a process that has torch or onnxruntime, and nothing of tickdsl.

    python run_portable.py FILE FOLDER [MEAN STD]

FILE: a .pt2 or .onnx file. FOLDER: holds the images, uint8 [N, C, H, W], in `images.pt` for a .pt2 file and in
`images.npy` for an .onnx file; gets the logits, float32 [N, classes], in `logits.pt` or `logits.npy`. MEAN, STD: JSON
lists, for files that do not normalise the images themselves.

The first image is run alone, the others in batches: a network must work for both. This is a script, not a module.
"""

import json
import sys
from pathlib import Path

BATCH = 100


def main(file: str, folder: str, mean: str = "[0]", std: str = "[1]") -> None:
    """Run the file, and write its logits."""
    run = run_pt2 if file.endswith(".pt2") else run_onnx
    run(file, Path(folder), json.loads(mean), json.loads(std))


def batches(count: int) -> list[slice]:
    """The first image, and batches of the others, as slices."""
    return [slice(0, 1), *(slice(first, min(first + BATCH, count)) for first in range(1, count, BATCH))]


def run_pt2(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run a program of torch.export."""
    import torch

    images = torch.load(folder / "images.pt", weights_only=True, mmap=True)
    network = torch.export.load(file).module()
    shift, scale = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    with torch.no_grad():
        logits = [network((images[part] / 255 - shift) / scale) for part in batches(len(images))]
    torch.save(torch.cat(logits), folder / "logits.pt")


def run_onnx(file: str, folder: Path, mean: list[float], std: list[float]) -> None:
    """Run an ONNX file."""
    import numpy as np
    import onnxruntime

    images = np.load(folder / "images.npy", mmap_mode="r")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    shift, scale = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std))
    logits = [
        session.run(None, {name: (images[part].astype(np.float32) / np.float32(255) - shift) / scale})[0]
        for part in batches(len(images))
    ]
    np.save(folder / "logits.npy", np.concatenate(logits))


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the file.
    sys.modules["tickdsl"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
