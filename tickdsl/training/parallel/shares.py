"""Which rows of a batch each of several processes computes. Loads no torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import attrs


def micro_batches(images: int, micro_batch: int) -> int:
    """How many micro-batches a batch is computed in: as few as hold at most `micro_batch` images each.

    They differ by at most one image. None is of a single image, with which batch norm cannot train, unless all are.
    """
    count = -(-images // micro_batch)
    return count - 1 if count > 1 and images // count == 1 < micro_batch else count


def cut(count: int, parts: int) -> list[tuple[int, int]]:
    """The first and the last + 1 of `count` rows in each of so many parts, as `Tensor.tensor_split` cuts them."""
    size, more = divmod(count, parts)
    starts = [part * size + min(part, more) for part in range(parts + 1)]
    return list(itertools.pairwise(starts))


@attrs.frozen
class Rows:
    """The rows of a micro-batch that a process computes: `first` up to `last`, counted in the whole batch.

    counted: whether they count. A process that a small micro-batch has no row for computes one of another's, so that
    it takes part in what all processes compute together, and counts for nothing.
    """

    first: int
    last: int
    counted: bool = True

    def __len__(self) -> int:
        return self.last - self.first


@attrs.frozen
class BatchShare:
    """What a process computes of a batch of `batch` rows: its rows of each micro-batch, one after the other.

    sizes: by micro-batch, how many rows count in each process.
    """

    batch: int
    rows: tuple[Rows, ...]
    sizes: tuple[tuple[int, ...], ...]


def batch_share(batch: int, rank: int, ranks: int, micro_batch: int) -> BatchShare:
    """The share of process `rank` of `ranks`. micro_batch: the most rows that are computed at once by all of them.

    Every process computes a part of every micro-batch, so that what a micro-batch has in common, such as the statistics
    of batch norm, is that of one process.
    """
    rows, sizes = [], []
    for start, stop in cut(batch, micro_batches(batch, micro_batch)):
        parts = cut(stop - start, ranks)
        first, last = parts[rank]
        rows.append(Rows(start + first, start + last) if last > first else Rows(start, start + 1, counted=False))
        sizes.append(tuple(end - begin for begin, end in parts))
    return BatchShare(batch, tuple(rows), tuple(sizes))


def joined(rows: Sequence[Rows]) -> list[tuple[int, int]]:
    """The rows as ranges, of which those that follow each other are one."""
    ranges: list[tuple[int, int]] = []
    for each in rows:
        if ranges and ranges[-1][1] == each.first:
            ranges[-1] = (ranges[-1][0], each.last)
        else:
            ranges.append((each.first, each.last))
    return ranges
