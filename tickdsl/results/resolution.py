"""How finely a test set can tell two networks apart: the samples on which they disagree.

Results store which test samples a network gets right. Where one of two results does not (they were stored by an earlier
version), the disagreements are those expected if the errors of both networks were independent: more than two trainings
of one task have, so verdicts err on the side of `undecided`. A metric that is not a share of right samples is known to
be no finer than one of its samples makes it; one that changes continuously has no resolution.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping
from fractions import Fraction

from tickdsl.records.events import Metric, MetricInfo
from tickdsl.records.image_flags import decode_flags
from tickdsl.results.scores import ACCURACY, score_of

#: No test set is assumed to have more images than this.
_MAX_IMAGES = 1_000_000


Pair = tuple[Mapping[int, Metric], Mapping[int, Metric]]  # two networks, measured by seed


def resolutions(pairs: Mapping[int, Pair], metric: MetricInfo = ACCURACY) -> dict[int, float]:
    """For each level, the mean over the common seeds of max(1, disagreements) / images²; 0 if the metric has none.

    All measurements have a score. Where they do not tell the size of the test set, it is the smallest one of which all
    scores are shares. The change that one sample makes is `metric.per_sample` / images.
    """
    if not metric.per_sample:
        return dict.fromkeys(pairs, 0.0)
    networks = [network for pair in pairs.values() for network in pair]
    images = 0
    if any(not measured.test_images for network in networks for measured in network.values()):
        images = smallest_test_set(
            score_of(measured, metric) or 0.0 for network in networks for measured in network.values()
        )
    return {level: _resolution(first, second, images, metric) for level, (first, second) in pairs.items()}


def _resolution(first: Mapping[int, Metric], second: Mapping[int, Metric], images: int, metric: MetricInfo) -> float:
    variances = []
    for seed in first.keys() & second.keys():
        count = first[seed].test_images or second[seed].test_images or images
        variances.append(max(1.0, disagreements(first[seed], second[seed], count, metric)) / count**2)
    return statistics.fmean(variances) * metric.per_sample**2


def disagreements(first: Metric, second: Metric, images: int, metric: MetricInfo = ACCURACY) -> float:
    """The number of test samples that exactly one of two networks gets right; expected if it is not known."""
    if not resolves_by_samples(metric):
        return 0.0
    told = first.correct is not None and second.correct is not None and first.test_images == second.test_images
    if told and metric.name == (first.metric or ACCURACY.name):
        return (decode_flags(first.correct or "") ^ decode_flags(second.correct or "")).bit_count()
    a, b = score_of(first, metric) or 0.0, score_of(second, metric) or 0.0
    return images * (a * (1.0 - b) + b * (1.0 - a))


def resolves_by_samples(metric: MetricInfo) -> bool:
    """Whether a metric is the share of the samples that a network gets right."""
    return metric.is_share and metric.per_sample == 1.0


def smallest_test_set(scores: Iterable[float]) -> int:
    """The smallest number of images of which all scores are shares."""
    images = 1
    for score in scores:
        if (multiple := math.lcm(images, _denominator(score))) <= _MAX_IMAGES:
            images = multiple
    return images


@functools.lru_cache(maxsize=4096)
def _denominator(score: float) -> int:
    return Fraction(score).limit_denominator(_MAX_IMAGES).denominator
