"""Encoded images in files, decoded where they are used, with the interface of a tensor as far as data sets need it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.data.readers.encoded_images import EncodedImages
from tickdsl.training.data.readers.mapped_arrays import MappedInputs
from tickdsl.training.data.readers.named_arrays import NamedArrays
from tickdsl.training.data.streaming.decoder_pool import DecoderPool, Reply, decoder_pool
from tickdsl.training.devices import to_device
from tickdsl.training.named_tensors import NamedTensors

#: The most bytes of batches that are decoded ahead, and the most batches.
_AHEAD_BYTES, _AHEAD_BATCHES = 256 << 20, 8


class PendingBatch:
    """A batch that is being decoded, uint8 [B, C, H, W] on the CPU, in pinned memory if it goes to a GPU."""

    def __init__(self, images: EncodedImages, rows: NDArray[np.int64], *, pinned: bool) -> None:
        pool = decoder_pool()
        self._source = images.source
        self._pixels = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
        flat: Any = self._pixels.numpy().reshape(-1)
        buffer = memoryview(flat) if len(rows) else memoryview(b"")
        image_bytes = int(np.prod(images.shape[1:]))
        self._futures: list[Future[Reply]] = []
        for first, last in _shares(len(rows), pool):
            request = images.request("pixels", rows[first:last])
            self._futures.append(pool.submit(request, buffer[first * image_bytes : last * image_bytes]))

    @property
    def ready(self) -> bool:
        """Whether the batch can be had without waiting."""
        return all(future.done() for future in self._futures)

    def wait(self) -> Tensor:
        """Wait for the batch. Raises TickdslError, which names the file, if an image cannot be read."""
        for future in self._futures:
            _result(future, self._source)
        return self._pixels

    def cancel(self) -> None:
        """Give the batch up."""
        for future in self._futures:
            future.cancel()


def _shares(count: int, pool: DecoderPool) -> list[tuple[int, int]]:
    parts = min(count, 2 * pool.processes)  # so that no process waits long for the slowest one
    return [(count * part // parts, count * (part + 1) // parts) for part in range(parts)]


def _result(future: Future[Reply], source: str) -> Reply:
    try:
        return future.result()
    except TickdslError as error:
        raise TickdslError(f"{source}: {error.message}", error.hint) from error


class PendingRows:
    """A batch of arrays that is being read from files, [B, …] on the CPU, in pinned memory if it goes to a GPU."""

    def __init__(self, inputs: MappedInputs | NamedArrays, rows: NDArray[np.int64], *, pinned: bool) -> None:
        self._pinned = pinned
        self._future = _reader().submit(inputs.read, rows)

    @property
    def ready(self) -> bool:
        """Whether the batch can be had without waiting."""
        return self._future.done()

    def wait(self) -> Tensor:
        """Wait for the batch."""
        found = self._future.result()
        batch: Any = NamedTensors(as_tensors(found)) if isinstance(found, dict) else torch.from_numpy(found)
        return batch.pin_memory() if self._pinned else batch  # type: ignore[no-any-return]

    def cancel(self) -> None:
        """Give the batch up."""
        self._future.cancel()


def as_tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays by name as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


@functools.cache
def _reader() -> ThreadPoolExecutor:
    """The thread that reads arrays ahead: what it waits for is the disk."""
    return ThreadPoolExecutor(1, thread_name_prefix="arrays")


@attrs.frozen(eq=False)
class StreamedImages:
    """Inputs that are read when they are indexed; the results are on `device`.

    images: images uint8 [N, C, H, W] in files, which are decoded then, or inputs [N, …] of `dtype` in an array, or
    several inputs by name.
    """

    images: EncodedImages | MappedInputs | NamedArrays
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.uint8

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.images.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that are held in memory: none but those of batches in use."""
        return 0

    def to(self, device: torch.device | str) -> StreamedImages:
        """The same images, decoded for another device."""
        return attrs.evolve(self, device=torch.device(device))

    def subset(self, indices: Any) -> StreamedImages:
        """Some of the images, which are not decoded for it. indices: a slice, a mask or indices."""
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else indices
        return attrs.evolve(self, images=self.images[rows])

    def __getitem__(self, indices: Any) -> Tensor:
        pending = self.request(indices)
        return to_device(pending.wait(), self.device)

    def request(self, indices: Any) -> PendingBatch | PendingRows:
        """Start to decode a batch. indices: a slice, a mask or indices."""
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else indices
        chosen = np.arange(len(self), dtype=np.int64)[rows]
        pinned = self.device.type == "cuda"
        if isinstance(self.images, MappedInputs | NamedArrays):
            return PendingRows(self.images, chosen, pinned=pinned)
        return PendingBatch(self.images, chosen, pinned=pinned)

    @property
    def bytes_per_image(self) -> int:
        """The size of a decoded image, or of all inputs of a sample."""
        if isinstance(self.images, NamedArrays):
            return self.images.nbytes // max(1, len(self.images))
        return int(np.prod(self.images.shape[1:])) * self.dtype.itemsize

    def ahead(self, batch: int) -> int:
        """How many batches of this size to decode ahead."""
        return max(1, min(_AHEAD_BATCHES, _AHEAD_BYTES // max(1, batch * self.bytes_per_image)))

    def batches(self, size: int) -> Iterator[Tensor]:
        """All images in order, in batches of `size`, decoded ahead."""
        waiting: deque[PendingBatch | PendingRows] = deque()
        starts = iter(range(0, len(self), size))
        try:
            while True:
                while len(waiting) <= self.ahead(size) and (first := next(starts, None)) is not None:
                    waiting.append(self.request(slice(first, first + size)))
                if not waiting:
                    return
                yield to_device(waiting.popleft().wait(), self.device)
        finally:
            for pending in waiting:
                pending.cancel()


def batches(inputs: Tensor, size: int) -> Iterator[Tensor]:
    """Inputs in batches of `size`, in order; inputs that are streamed are decoded ahead."""
    streamed: Any = inputs
    if isinstance(streamed, StreamedImages):
        yield from streamed.batches(size)
        return
    for first in range(0, len(inputs), size):
        yield inputs[first : first + size]


def in_memory(inputs: Tensor) -> Tensor:
    """Inputs as a tensor; those that are streamed are all decoded."""
    streamed: Any = inputs
    return streamed[:] if isinstance(streamed, StreamedImages) else inputs


def input_called(inputs: Tensor, name: str) -> Tensor:
    """One of several inputs; those that are streamed stay in their files."""
    several: Any = inputs
    if isinstance(several, StreamedImages) and isinstance(several.images, NamedArrays):
        stored: Any = several.images.arrays[name]
        return attrs.evolve(several, images=stored)  # type: ignore[return-value]
    return several[name]  # type: ignore[no-any-return]


def take(inputs: Tensor, indices: Any) -> Tensor:
    """Some of the inputs; those that are streamed stay encoded."""
    streamed: Any = inputs
    chosen: Any = streamed.subset(indices) if isinstance(streamed, StreamedImages) else inputs[indices]
    return chosen  # type: ignore[no-any-return]


def ask(images: EncodedImages, operation: str, indices: Sequence[int] | None = None, **more: Any) -> Iterator[Reply]:
    """Ask the pool about all images in parts of equal size; the replies in order. more: fields of the requests."""
    pool, rows = decoder_pool(), np.arange(len(images), dtype=np.int64)
    waiting: deque[Future[Reply]] = deque()
    starts = iter(range(0, len(rows), _PART))
    while True:
        while len(waiting) < 4 * pool.processes and (first := next(starts, None)) is not None:
            waiting.append(pool.submit({**images.request(operation, rows[first : first + _PART]), **more}))
        if not waiting:
            return
        yield _result(waiting.popleft(), images.source)


#: How many images a request about all of them is for.
_PART = 64
