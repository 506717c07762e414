"""Drawn images of circles, squares and triangles on a texture: for segmentation, tagging and regression.

The kinds differ in outline only: colours, sizes, rotations and places are random. Every image has at most one shape of
each kind, each in a quarter of its own. Nothing but exactly rounded arithmetic is used, so that equal arguments give
equal images on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.training.data.readers.raw_dataset import ImageArray, RawDataset, TargetArray

#: The data sets, with the task of each.
NAMES = {"shapes": "segment", "shapes-tags": "tag", "shapes-places": "regress"}
#: The smallest images, in pixels per side, that show the kinds apart.
MIN_SIZE = 16
KINDS = ("circle", "square", "triangle")
_SEED = 20260611
_Floats = NDArray[np.float64]


@attrs.frozen(eq=False)
class _Drawn:
    """Images [N, C, H, W], masks uint8 [N, H, W] (0, or 1 + the kind), whether each kind is there [N, 3], and its
    centre [N, 3, 2], row and column as shares of the side."""

    images: ImageArray
    masks: NDArray[np.uint8]
    present: NDArray[np.bool_]
    centres: _Floats


@lru_cache(maxsize=4)
def read(name: str, *, size: int, channels: int, train: int, test: int) -> RawDataset:
    """Draw a data set; drawn once per process for equal arguments.

    `shapes` has masks, `shapes-tags` the kinds that are there, and `shapes-places` the centre of the circle, which is
    in every one of its images.
    """
    parts = [
        _draw(np.random.Generator(np.random.PCG64([_SEED, part])), count, size, channels, name == "shapes-places")
        for part, count in enumerate((train, test))
    ]
    targets: list[TargetArray]
    if name == "shapes":
        names: tuple[str, ...] = ("background", *KINDS)
        targets = [drawn.masks for drawn in parts]
    elif name == "shapes-tags":
        names, targets = KINDS, [drawn.present.astype(np.float32) for drawn in parts]
    else:
        names, targets = ("row", "column"), [drawn.centres[:, 0].astype(np.float32) for drawn in parts]
    return RawDataset(parts[0].images, targets[0], parts[1].images, targets[1], names, task=NAMES[name])


def _draw(rng: np.random.Generator, count: int, size: int, channels: int, circles: bool) -> _Drawn:
    present = rng.random((count, len(KINDS))) < 0.5
    present[:, 0] |= circles
    centres = _centres(rng, count)
    radii = rng.uniform(0.16, 0.24, (count, len(KINDS)))
    turned = _unit_vectors(rng, (count, len(KINDS)))

    images = _texture(rng, count, size, channels)
    masks = np.zeros((count, size, size), dtype=np.uint8)
    pixels = (np.arange(size) + 0.5) / size
    for kind, _ in enumerate(KINDS):
        rows, columns = pixels[None, :, None], pixels[None, None, :]
        y, x = (line - centres[:, kind, axis, None, None] for axis, line in enumerate((rows, columns)))
        cosine, sine = (turned[axis][:, kind, None, None] for axis in range(2))
        inside = _outline(kind, cosine * x + sine * y, cosine * y - sine * x) <= radii[:, kind, None, None]
        inside &= present[:, kind, None, None]
        masks[inside] = kind + 1
        # A shape is brighter than its surroundings, by more than the noise.
        images += inside[:, None] * rng.uniform(50, 100, (count, channels, 1, 1))
    images += rng.uniform(-20, 20, images.shape)
    return _Drawn(np.clip(np.rint(images), 0, 255).astype(np.uint8), masks, present, centres)


def _outline(kind: int, x: _Floats, y: _Floats) -> _Floats:
    """How large a shape of this kind has to be to reach a point; kinds of equal size have about equal areas."""
    if KINDS[kind] == "circle":
        reached: _Floats = np.sqrt(x * x + y * y)
    elif KINDS[kind] == "square":
        reached = np.maximum(np.abs(x), np.abs(y)) * 1.13
    else:
        reached = np.maximum(y, np.abs(x) * (np.sqrt(3) / 2) - y / 2) * 1.29
    return reached


def _centres(rng: np.random.Generator, count: int) -> _Floats:
    """A centre for each kind [N, kinds, 2], each in a quarter of the image of its own."""
    quarters = rng.random((count, 4)).argsort(1)[:, : len(KINDS)]
    corners = np.stack([quarters // 2, quarters % 2], 2) * 0.5
    return corners + rng.uniform(0.15, 0.35, (count, len(KINDS), 2))


def _unit_vectors(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[_Floats, _Floats]:
    """Cosines and sines of angles within 20 degrees, without a cosine, whose rounding hangs on the machine."""
    t = rng.uniform(-0.18, 0.18, shape)
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _texture(rng: np.random.Generator, count: int, size: int, channels: int) -> _Floats:
    """A shade per image and channel, with a coarse pattern of patches."""
    patches = -(-size // 4) + 1
    coarse = rng.uniform(-15, 15, (count, channels, patches, patches))
    shades = rng.uniform(30, 130, (count, channels, 1, 1))
    return shades + coarse.repeat(4, axis=2).repeat(4, axis=3)[:, :, :size, :size]
