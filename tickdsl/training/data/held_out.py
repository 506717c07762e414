"""A share of a data set that is held out, for testing or validation: a fixed choice by the samples' contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TooFewSamplesError
from tickdsl.printable import printable_line


def choose(classes: Sequence[str], digests: Sequence[bytes], share: float, purpose: str = "testing") -> list[bool]:
    """Choose a share of each class, by the samples' digests alone.

    classes, digests: of each sample. The choice depends on no seed, nor on names and order, and changes little if
    samples are added. Samples with the same digest, even in two classes, are all chosen or none. Each class keeps at
    least one sample for training and one that is held out. purpose: what it is held out for, in messages. Raises
    TooFewSamplesError if a class has fewer than two different samples.
    """
    copies: dict[str, dict[bytes, int]] = {}
    for label, digest in zip(classes, digests, strict=True):
        counts = copies.setdefault(label, {})
        counts[digest] = counts.get(digest, 0) + 1
    chosen: set[bytes] = set()
    kept: set[bytes] = set()
    for label, counts in sorted(copies.items()):
        total = sum(counts.values())
        wanted = min(max(int(share * total + 0.5), 1), total - 1)
        undecided = sorted(counts.keys() - chosen - kept)
        count = sum(counts[digest] for digest in counts.keys() & chosen)
        for digest in undecided:
            if count + counts[digest] <= wanted:
                chosen.add(digest)
                count += counts[digest]
        if not count and undecided:  # every sample has many copies
            chosen.add(min(undecided, key=lambda digest: (counts[digest], digest)))
        kept |= counts.keys() - chosen
        if not counts.keys() & chosen or not counts.keys() & kept:
            which = f"class {printable_line(label)}" if label else "the data set"
            raise TooFewSamplesError(
                f"{which} needs two different images, one for training and one for {purpose}",
                "add images to it, or remove its folder"
                if purpose == "testing"
                else f"use more samples, or leave out `{purpose}=`",
            )
    return [digest in chosen for digest in digests]


def sample_digests(inputs: Iterable[NDArray[np.generic]], purpose: str) -> list[bytes]:
    """The SHA-256 of each sample's bytes, other ones for each purpose, so that two choices do not hang together."""
    prefix = purpose.encode()
    return [hashlib.sha256(prefix + np.ascontiguousarray(sample).tobytes()).digest() for sample in inputs]


def validation_mask(
    inputs: Iterable[NDArray[np.generic]],
    labels: Sequence[int] | None,
    names: Sequence[str],
    share: float,
    digests: Sequence[bytes] | None = None,
) -> NDArray[np.bool_]:
    """Which training samples are held out for validation, bool [N]: a share of each class, or of all samples.

    inputs: the samples, as they are read; labels: the class of each, by its index in `names`, None for tasks without
    classes; digests: those of the samples, if they are known. Raises TooFewSamplesError if a class would be left
    without one.
    """
    digests = sample_digests(inputs, "validation") if digests is None else digests
    classes = [""] * len(digests) if labels is None else [names[label] for label in labels]
    return np.array(choose(classes, digests, share, "validation"), dtype=np.bool_)
