"""Images in files, not decoded: where each one is, and how it becomes pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.training.data.readers.file_entries import Entry
from tickdsl.training.data.readers.image_decoding import ImageFacts


@attrs.frozen(eq=False)
class EncodedImages:
    """Images uint8 [N, C, H, W] as encoded files, or parts of files.

    names, paths: of each image, for messages and to read it; places: int64 [N, 2], its offset in the file and its
    length, -1 if the file is the image; digests: the SHA-256 of its bytes, in hexadecimal, or "" if it is not known
    yet. rows: int64 [N], which of them these are. source: the data set's path. size: pixels per side that they are
    resized to (0: unchanged); shape: (C, H, W); scale: the lowest and the highest value of deep images, None if there
    are none. cache: the start of the names of files that keep what is computed about them; None to keep nothing.
    """

    source: str
    names: Sequence[str]
    paths: Sequence[str]
    places: NDArray[np.int64]
    digests: Sequence[str]
    rows: NDArray[np.int64]
    size: int
    image_shape: tuple[int, int, int]
    scale: tuple[float, float] | None = None
    cache: Path | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.image_shape)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        """The size of the decoded images."""
        return int(np.prod(self.shape))

    def __getitem__(self, indices: Any) -> EncodedImages:
        """Some of the images. indices: a slice, a mask or indices."""
        return attrs.evolve(self, rows=self.rows[indices])

    def with_channels(self, channels: int) -> EncodedImages:
        """The images with their grey channel repeated."""
        return attrs.evolve(self, image_shape=(channels, *self.image_shape[1:]))

    def request(self, operation: str, indices: NDArray[np.int64]) -> dict[str, Any]:
        """What a process that decodes images is asked (see `streaming.decoder_process`) about some of them."""
        rows = self.rows[indices]
        images = [
            (self.names[row], self.paths[row], *self.places[row].tolist(), self.digests[row]) for row in rows.tolist()
        ]
        return {
            "operation": operation,
            "images": images,
            "size": self.size,
            "channels": self.image_shape[0],
            "scale": self.scale,
        }


class EntryReader(Protocol):
    """A folder, an archive or other files that hold encoded images."""

    def read(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The bytes of entries, in any order."""


@attrs.frozen(eq=False)
class ScannedImages:
    """What a look at images has found: of each by its name the facts, the SHA-256 of its bytes, and where these are."""

    facts: Mapping[str, ImageFacts]
    digests: Mapping[str, bytes]
    paths: Mapping[str, str]
    places: Mapping[str, tuple[int, int]]


class ScanImages(Protocol):
    """Looks at images once: `streaming.scan.scan`."""

    def __call__(
        self, source: Path, tree: EntryReader, entries: Sequence[Entry], size: int, cache: Path
    ) -> ScannedImages: ...
