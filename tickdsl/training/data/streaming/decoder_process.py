"""A process that decodes images: `python -m tickdsl.training.data.streaming.decoder_process`. It loads no torch.

It reads requests from standard input, one JSON object a line, and answers each on standard output by a JSON object on a
line of its own, followed by the `bytes` of pixels that it announces. It ends when its input does, so that it never
outlives the process that started it.

A request has `operation`, `images` ([name, path, offset, length, digest] each; an offset of -1 is the whole file; the
digest is the SHA-256 of its bytes, or "") and `size` (pixels per side, 0: as they are). Operations:

- `facts`: `facts` of each image: height, width, whether it is grey, the range of deep values or null, whether it has
  transparent pixels, and the SHA-256 of its file's bytes.
- `pixels`: uint8 [N, C, H, W] in bytes, with `channels` and `scale` ([low, high] of deep values, or null).
- `digests`: the SHA-256 of `salt` and each image's pixels; `histogram`: how often each value occurs, [C][256].

A request that fails is answered by `error` and `hint`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line
from tickdsl.training.data.readers.image_decoding import DecodedImage, Scale, decode


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        reply, payload = answer(json.loads(line))
        replies.write(json.dumps({**reply, "bytes": len(payload)}).encode() + b"\n")
        replies.write(payload)
        replies.flush()


def answer(request: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The answer to a request: a JSON object, and the bytes that follow it."""
    try:
        if request["operation"] == "facts":
            return {"facts": [_facts(place, request["size"]) for place in request["images"]]}, b""
        if request["operation"] == "digests":
            salt = request["salt"].encode()
            return {"digests": [hashlib.sha256(salt + image.tobytes()).hexdigest() for image in _pixels(request)]}, b""
        if request["operation"] == "histogram":
            return {"histogram": _histogram(_pixels(request), request["channels"])}, b""
        return {}, b"".join(image.tobytes() for image in _pixels(request))
    except TickdslError as error:
        return {"error": error.message, "hint": error.hint}, b""


def _content(place: Sequence[Any]) -> bytes:
    """The bytes of an image. Raises TickdslError if they cannot be read, or are not those that were read before."""
    name, path, offset, length, digest = place
    try:
        with Path(path).open("rb") as file:
            file.seek(max(offset, 0))
            content = file.read(length if offset >= 0 else -1)
    except OSError as error:
        raise TickdslError(
            f"cannot read {printable_line(str(path))}: {error.strerror}", "check that the data are still there"
        ) from error
    if digest and hashlib.sha256(content).hexdigest() != digest:
        raise TickdslError(
            f"the image {printable_line(name)} changed after the data were read",
            "restore it, or run the plan again: it computes anew what depends on it",
        )
    return content


def _facts(place: Sequence[Any], size: int) -> list[Any]:
    content = _content(place)
    decoded = decode(place[0], content, size)
    deep = None if decoded.deep is None else [decoded.deep.low, decoded.deep.high, decoded.deep.whole]
    digest = hashlib.sha256(content).hexdigest()
    return [*decoded.pixels.shape[:2], decoded.grey, deep, decoded.blended, digest]


def _pixels(request: Mapping[str, Any]) -> Iterator[NDArray[np.uint8]]:
    scale = None if request["scale"] is None else Scale(*request["scale"])
    for place in request["images"]:
        yield as_pixels(decode(place[0], _content(place), request["size"]), scale, request["channels"])


def as_pixels(decoded: DecodedImage, scale: Scale | None, channels: int) -> NDArray[np.uint8]:
    """Pixels uint8 [C, H, W] of a decoded image: deep values scaled, grey ones repeated in all channels."""
    scaled = scale.apply(decoded.pixels) if decoded.deep and scale else decoded.pixels.astype(np.uint8, copy=False)
    height, width = scaled.shape[:2]
    planes = np.broadcast_to(scaled, (height, width, channels)) if scaled.shape[2] == 1 else scaled
    return np.ascontiguousarray(planes.transpose(2, 0, 1))


def _histogram(images: Iterator[NDArray[np.uint8]], channels: int) -> list[list[int]]:
    counts = np.zeros((channels, 256), dtype=np.int64)
    for image in images:
        for channel in range(channels):
            counts[channel] += np.bincount(image[channel].ravel(), minlength=256)
    return [row.tolist() for row in counts]


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
