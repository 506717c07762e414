"""Run an exported network on images, in a process that has torch or onnxruntime, and nothing of tickdsl.

    python fresh_run.py FILE FOLDER [MEAN STD]

FILE: a .pt2 or .onnx file. FOLDER: holds the images, uint8 [N, C, H, W], in `images.pt` for a .pt2 file and in
`images.npy` for an .onnx file; gets the logits, float32 [N, classes], in `logits.pt` or `logits.npy`. MEAN, STD: JSON
lists, for files that do not normalise the images themselves.

The first image is run alone, the others in batches: a network must work for both. This is a script, not a module.
"""

import json
import sys
from pathlib import Path

BATCH = 100


def main(file, folder, mean="[0]", std="[1]"):
    """Run the file, and write its logits."""
    mean, std = json.loads(mean), json.loads(std)
    if file.endswith(".pt2"):
        run_pt2(file, Path(folder), mean, std)
    else:
        run_onnx(file, Path(folder), mean, std)


def batches(count):
    """The first image, and batches of the others, as slices."""
    return [slice(0, 1), *(slice(first, min(first + BATCH, count)) for first in range(1, count, BATCH))]


def run_pt2(file, folder, mean, std):
    """Run a program of torch.export."""
    import torch

    images = torch.load(folder / "images.pt", weights_only=True, mmap=True)
    network = torch.export.load(file).module()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    with torch.no_grad():
        logits = [network((images[part] / 255 - mean) / std) for part in batches(len(images))]
    torch.save(torch.cat(logits), folder / "logits.pt")


def run_onnx(file, folder, mean, std):
    """Run an ONNX file."""
    import numpy as np
    import onnxruntime

    images = np.load(folder / "images.npy", mmap_mode="r")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (mean, std))
    logits = [
        session.run(None, {name: (images[part].astype(np.float32) / np.float32(255) - mean) / std})[0]
        for part in batches(len(images))
    ]
    np.save(folder / "logits.npy", np.concatenate(logits))


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the file.
    sys.modules["tickdsl"] = None
    main(*sys.argv[1:])
