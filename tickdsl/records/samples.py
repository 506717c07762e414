"""The pictures that a result keeps of what its network makes of a few test images."""

from __future__ import annotations

from pathlib import Path

#: A grid of pictures, as PNG.
SAMPLES = "samples.png"


def read_samples(folder: Path) -> bytes | None:
    """The PNG file in the folder of a result; None if its network makes no pictures."""
    try:
        return (folder / SAMPLES).read_bytes()
    except FileNotFoundError:
        return None
