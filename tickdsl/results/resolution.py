"""How finely a test set can tell two networks apart: the images on which they disagree.

Results store which test images a network classifies correctly. Where one of two results does not (they were stored by
an earlier version), the disagreements are those expected if the errors of both networks were independent: more than two
trainings of one task have, so verdicts err on the side of `undecided`.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping
from fractions import Fraction

from tickdsl.records.events import Metric
from tickdsl.records.image_flags import decode_flags

#: No test set is assumed to have more images than this.
_MAX_IMAGES = 1_000_000


Pair = tuple[Mapping[int, Metric], Mapping[int, Metric]]  # two networks, measured by seed


def resolutions(pairs: Mapping[int, Pair]) -> dict[int, float]:
    """For each level, the mean over the common seeds of max(1, disagreements) / images².

    All measurements have an accuracy. Where they do not tell the size of the test set, it is the smallest one of which
    all accuracies are shares.
    """
    networks = [network for pair in pairs.values() for network in pair]
    images = 0
    if any(not metric.test_images for network in networks for metric in network.values()):
        images = smallest_test_set(metric.accuracy or 0.0 for network in networks for metric in network.values())
    return {level: _resolution(first, second, images) for level, (first, second) in pairs.items()}


def _resolution(first: Mapping[int, Metric], second: Mapping[int, Metric], images: int) -> float:
    variances = []
    for seed in first.keys() & second.keys():
        count = first[seed].test_images or second[seed].test_images or images
        variances.append(max(1.0, disagreements(first[seed], second[seed], count)) / count**2)
    return statistics.fmean(variances)


def disagreements(first: Metric, second: Metric, images: int) -> float:
    """The number of test images that exactly one of two networks classifies correctly; expected if it is not known."""
    if first.correct is not None and second.correct is not None and first.test_images == second.test_images:
        return (decode_flags(first.correct) ^ decode_flags(second.correct)).bit_count()
    a, b = first.accuracy or 0.0, second.accuracy or 0.0
    return images * (a * (1.0 - b) + b * (1.0 - a))


def smallest_test_set(accuracies: Iterable[float]) -> int:
    """The smallest number of images of which all accuracies are shares."""
    images = 1
    for accuracy in accuracies:
        if (multiple := math.lcm(images, _denominator(accuracy))) <= _MAX_IMAGES:
            images = multiple
    return images


@functools.lru_cache(maxsize=4096)
def _denominator(accuracy: float) -> int:
    return Fraction(accuracy).limit_denominator(_MAX_IMAGES).denominator
