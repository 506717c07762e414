"""What is computed once over all images that are streamed, and kept on disk: digests and frequencies of values."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickdsl.patient_reads import move
from tickdsl.training.data.readers.encoded_images import EncodedImages
from tickdsl.training.data.streaming.images import ask


def value_counts(images: EncodedImages) -> NDArray[np.int64]:
    """How often each value occurs in each channel, int64 [C, 256]."""

    def count() -> list[list[int]]:
        counts = np.zeros((images.image_shape[0], 256), dtype=np.int64)
        for reply in ask(images, "histogram"):
            counts += np.array(reply["histogram"], dtype=np.int64)
        return [row.tolist() for row in counts]

    return np.array(_kept(images, "counts", count), dtype=np.int64)


def digests(images: EncodedImages, salt: str) -> list[bytes]:
    """The SHA-256 of the salt and each image's pixels."""
    found = _kept(
        images,
        f"digests-{salt}",
        lambda: [one for part in ask(images, "digests", salt=salt) for one in part["digests"]],
    )
    return [bytes.fromhex(digest) for digest in found]


def _kept(images: EncodedImages, kind: str, compute: Callable[[], Any]) -> Any:
    """What was computed for these images before, else what is computed now; without a writable folder, each time."""
    if images.cache is None:
        return compute()
    chosen = hashlib.sha256(images.rows.tobytes() + bytes(images.image_shape[:1])).hexdigest()[:16]
    file = Path(f"{images.cache}.{kind}-{chosen}.json")
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        value = compute()
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(value))
        move(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
    return value
