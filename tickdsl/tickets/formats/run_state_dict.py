"""Run exported weights with the code beside them, in a process without tickdsl.

    python run_state_dict.py FOLDER IMAGES

FOLDER: holds `network.py` and `weights.safetensors`. IMAGES: a folder with the images, uint8 [N, C, H, W], or
numbers, float32, in `images.pt`; gets the logits, float32 [N, classes], in `logits.pt`. This is a script.
"""

import sys
from pathlib import Path

BATCH = 1000


def main(folder: str, images_folder: str) -> None:
    """Load the network, run it, and write its logits."""
    import torch

    sys.path.insert(0, folder)
    import network  # type: ignore[import-not-found]

    model = network.load()
    images = torch.load(Path(images_folder) / "images.pt", weights_only=True, mmap=True)
    with torch.no_grad():
        logits = [
            model(network.normalize(part / 255 if part.dtype == torch.uint8 else part))
            for part in torch.split(images, BATCH)
        ]
    torch.save(torch.cat(logits), Path(images_folder) / "logits.pt")


if __name__ == "__main__":
    # Whatever imports tickdsl here is a fault of the code.
    sys.modules["tickdsl"] = None  # type: ignore[assignment]
    main(*sys.argv[1:])
