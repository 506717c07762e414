"""Who won: means with confidence intervals over seeds, differences paired by seed, and the verdict.

For n values x with mean m and sample standard deviation s (divisor n - 1), the 95 % confidence interval of the
mean is m ± t(0.975, n-1) · s/√n (Student, "The probable error of a mean", Biometrika 6, 1908). Arms of one seed
share initial weights and batches, so two contestants are compared by the n differences of equal seeds, whose
mean gets the same interval: the paired t interval. From MIN_BOOTSTRAP_SEEDS on, the bootstrap replaces t (Efron
1979, percentiles of the mean over resampled seeds).

Intervals are for one comparison each. Verdicts are for all levels of an arm at once: the one-sided p values of its
levels are corrected by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979), so that the chance
of any wrong `winning` among them stays below 2.5 %, and that of any wrong `losing` as well.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

from tickdsl.records.events import Metric
from tickdsl.results.bootstrap import MIN_BOOTSTRAP_SEEDS, mean_interval, mean_tail
from tickdsl.results.state import RunState
from tickdsl.results.student_t import t_quantile, t_tail

CONFIDENCE = 0.95
_FLOAT_TOLERANCE = 1e-12  # accuracies are ratios of counts: smaller differences are those of floating point

WINNING, LOSING, UNDECIDED = "winning", "losing", "undecided"


@attrs.frozen
class Estimate:
    """A mean over seeds; `half_width` is that of its 95 % interval, None for a single value."""

    n: int
    mean: float
    half_width: float | None
    values: tuple[float, ...] = attrs.field(default=(), repr=False, eq=False)

    @property
    def low(self) -> float | None:
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        return None if self.half_width is None else self.mean + self.half_width

    @property
    def zero_width(self) -> bool:
        """Whether all values are equal: an interval of no width, which says little about the next seed."""
        return self.half_width is not None and self.half_width <= _FLOAT_TOLERANCE


@attrs.frozen
class Standing:
    """How a contestant did at one level of an arm; accuracies and differences are shares of 1.

    `to_dense` is its accuracy minus that of the dense network, `lead` the ticket's minus its own, both paired by
    seed. `verdict` is winning, losing, undecided, or None where there are not two seeds to compare; it rests on
    `p_winning` and `p_losing`, corrected over the levels.
    """

    arm: str
    contestant: str
    level: int
    accuracy: Estimate | None
    sparsity: float | None
    params: float | None
    macs: float | None
    filters: float | None = None
    loss: float | None = None
    seconds: float | None = None
    to_dense: Estimate | None = None
    verdict: str | None = None
    p_winning: float | None = None
    p_losing: float | None = None
    lead: Estimate | None = None

    @property
    def density(self) -> float | None:
        """The share of the weights that is left."""
        return None if self.sparsity is None else 1.0 - self.sparsity


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of `values` and its interval; None where there is no value."""
    if not values:
        return None
    n = len(values)
    # fmean rounds once, so that the mean of equal values is that value.
    mean = statistics.fmean(values)
    if n == 1:
        return Estimate(1, mean, None, tuple(values))
    if n >= MIN_BOOTSTRAP_SEEDS:
        low, high = mean_interval(tuple(values), CONFIDENCE)
        return Estimate(n, mean, max(mean - low, high - mean), tuple(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Estimate(n, mean, t_quantile((1 + CONFIDENCE) / 2, n - 1) * deviation / math.sqrt(n), tuple(values))


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate | None:
    """The mean of one - other over the seeds that both have; None where they share none."""
    return estimate([values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())])


def p_above(difference: Estimate | None, bound: float) -> float | None:
    """How likely so large a mean difference is by luck, were the true one at most `bound`; None below two seeds.

    One-sided: of Student's t, or of the bootstrap from MIN_BOOTSTRAP_SEEDS on. Equal differences leave no doubt.
    """
    if difference is None or difference.half_width is None:
        return None
    if difference.zero_width:
        return 0.0 if difference.mean >= bound - _FLOAT_TOLERANCE else 1.0
    if difference.n >= MIN_BOOTSTRAP_SEEDS and difference.values:
        return mean_tail(difference.values, bound)
    freedom = difference.n - 1
    error = difference.half_width / t_quantile((1 + CONFIDENCE) / 2, freedom)
    return t_tail((difference.mean - bound) / error, freedom)


def p_below(difference: Estimate | None, bound: float) -> float | None:
    """How likely so small a mean difference is by luck, were the true one at least `bound`."""
    if difference is None:
        return None
    mirrored = attrs.evolve(difference, mean=-difference.mean, values=tuple(-value for value in difference.values))
    if difference.zero_width:  # what equals the bound does not lie below it
        return 0.0 if difference.mean < bound - _FLOAT_TOLERANCE else 1.0
    return p_above(mirrored, -bound)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values of one family, each corrected for the whole of it (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = worst
    return corrected


def _with_verdicts(standings: list[Standing], within: float) -> list[Standing]:
    """The levels of one contestant with their verdicts, corrected over all of them."""
    above = [p_above(standing.to_dense, -within) for standing in standings]
    below = [p_below(standing.to_dense, -within) for standing in standings]
    comparable = [index for index, p in enumerate(above) if p is not None]
    p_wins = holm([above[index] or 0.0 for index in comparable])
    p_losses = holm([below[index] or 0.0 for index in comparable])
    judged = list(standings)
    for index, p_win, p_loss in zip(comparable, p_wins, p_losses, strict=True):
        judged[index] = attrs.evolve(
            standings[index], verdict=_verdict_word(p_win, p_loss), p_winning=p_win, p_losing=p_loss
        )
    return judged


def verdict(difference: Estimate | None, within: float) -> str | None:
    """The verdict on a single comparison; None where the difference rests on fewer than two seeds.

    Winning if the interval lies at or above -within, losing if it lies below, else undecided.
    """
    p_win, p_loss = p_above(difference, -within), p_below(difference, -within)
    return None if p_win is None or p_loss is None else _verdict_word(p_win, p_loss)


def _verdict_word(p_win: float, p_loss: float) -> str:
    threshold = (1 - CONFIDENCE) / 2 + 1e-9  # quantile and tail agree to about that
    return WINNING if p_win <= threshold else LOSING if p_loss <= threshold else UNDECIDED


def compute_standings(state: RunState) -> dict[tuple[str, str, int], Standing]:
    """How everyone stands, by (arm id, contestant, level), in the order of the plan."""
    grouped: dict[tuple[str, str, int], dict[int, Metric]] = {}
    for (arm, contestant, level, seed), metric in state.metrics.items():
        grouped.setdefault((arm, contestant, level), {})[seed] = metric
    arm_order = {arm.id: sort_key for sort_key, arm in enumerate(state.arms)}
    contestant_order = {name: sort_key for sort_key, name in enumerate(state.contestants)}

    def sort_key(key: tuple[str, str, int]) -> tuple[int, int, int, str, str]:
        arm, contestant, level = key
        return (
            arm_order.get(arm, len(arm_order)),
            level,
            contestant_order.get(contestant, len(contestant_order)),
            arm,
            contestant,
        )

    accuracies = {key: _accuracies(metrics) for key, metrics in grouped.items()}
    standings = {key: _standing(key, grouped[key], accuracies) for key in sorted(grouped, key=sort_key)}
    families: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for key, standing in standings.items():
        if standing.to_dense is not None:
            families.setdefault(key[:2], []).append(key)
    for keys in families.values():
        standings.update(zip(keys, _with_verdicts([standings[key] for key in keys], state.within), strict=True))
    return standings


def caveats(state: RunState) -> list[str]:
    """What a reader of the figures must know: too few seeds, missing or suspiciously equal values."""
    notes = []
    all_standings = compute_standings(state).values()
    if any(s.contestant != "dense" and s.accuracy and s.accuracy.n == 1 for s in all_standings):
        notes.append("a figure from one seed has no interval and gets no verdict; `seeds 3` or more gives both")
    if any(s.to_dense is not None and s.contestant != "dense" and s.to_dense.zero_width for s in all_standings):
        notes.append(
            "some differences to dense are the same for every seed: their interval has no width, "
            "and says little about the next seed"
        )
    partial = [s for s in all_standings if s.accuracy is None or s.accuracy.n < len(state.seeds)]
    if partial:
        notes.append(f"{len(partial)} of {len(all_standings)} figures lack seeds and rest on those that are there")
    return notes


def _standing(
    key: tuple[str, str, int],
    metrics: Mapping[int, Metric],
    accuracies: Mapping[tuple[str, str, int], Mapping[int, float]],
) -> Standing:
    arm, contestant, level = key
    by_seed = accuracies[key]
    dense = accuracies.get((arm, "dense", 0), {})
    ticket = accuracies.get((arm, "ticket", level), {})
    is_dense = contestant == "dense"
    to_dense = None if is_dense else paired_difference(by_seed, dense)
    return Standing(
        arm=arm,
        contestant=contestant,
        level=level,
        accuracy=estimate([by_seed[seed] for seed in sorted(by_seed)]),
        sparsity=_mean([metric.sparsity for metric in metrics.values()]),
        params=_mean([metric.params for metric in metrics.values()]),
        macs=_mean([metric.macs for metric in metrics.values()]),
        filters=_mean([metric.filters for metric in metrics.values()]),
        loss=_mean([metric.loss for metric in metrics.values()]),
        seconds=_mean([metric.seconds for metric in metrics.values()]),
        to_dense=to_dense,
        lead=None if is_dense or contestant == "ticket" else paired_difference(ticket, by_seed),
    )


def _accuracies(metrics: Mapping[int, Metric]) -> dict[int, float]:
    return {seed: metric.accuracy for seed, metric in metrics.items() if metric.accuracy is not None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
