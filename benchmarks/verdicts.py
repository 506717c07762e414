"""How often a verdict is wrong, and how often it is reached: arms are simulated, and judged as those of a run.

    python benchmarks/verdicts.py [--arms N]

Networks are simulated by their differences from dense. Of the images on which both disagree, each is won by a coin
toss; on top of that, seeds differ by more than the test set resolves. `dispersion` is the variance of a difference
divided by that of the coin tosses alone, `correlation` that between the rounds of one arm, and `growth` is how much
larger the dispersion of the last round is than that of the first.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import attrs
import numpy as np

from tickdsl.results.paired_tests import THRESHOLD, PairedLevel, PairedTest, holm, paired_tests

#: How many images of a test set the dense and the pruned network disagree on, in the first round; in the last, twice.
DISAGREEMENTS = {360: 8, 10_000: 200}


@attrs.frozen
class Setting:
    """Arms of `levels` rounds with `seeds` seeds and a true difference of `gain` from dense.

    With `stop`, a seed ends at the first round in which it has lost this much of its accuracy or more.
    """

    seeds: int
    levels: int
    images: int
    dispersion: float = 3.0
    correlation: float = 0.5
    growth: float = 1.0
    gain: float = 0.0
    stop: float | None = None


class Arm(NamedTuple):
    """Differences from dense, and images that both disagree on: [seeds, levels]."""

    differences: np.ndarray
    disagreements: np.ndarray


def simulate(setting: Setting, draw: np.random.Generator) -> Arm:
    """One arm; seeds that ended have NaN."""
    expected = DISAGREEMENTS[setting.images] * np.linspace(1, 2, setting.levels)
    dispersion = setting.dispersion * np.geomspace(1, setting.growth, setting.levels)
    shape = (setting.seeds, setting.levels)
    shared = draw.standard_normal((setting.seeds, 1)) * math.sqrt(setting.correlation)
    noise = shared + draw.standard_normal(shape) * math.sqrt(1 - setting.correlation)
    won = noise * np.sqrt(dispersion * expected) + setting.gain * setting.images
    won = np.floor(won + draw.random(shape))  # whole images, without bias
    disagreements = np.maximum(draw.poisson(expected, shape), np.abs(won))
    differences = won / setting.images
    if setting.stop is not None:
        ended = np.cumsum(differences <= -setting.stop, axis=1) - (differences <= -setting.stop) > 0
        differences[ended] = np.nan
    return Arm(differences, disagreements)


def winners(arm: Arm, images: int) -> list[bool]:
    """Which rounds are winning."""
    differences, disagreements = arm
    complete = [level for level in range(differences.shape[1]) if not np.isnan(differences[:, level]).any()]
    families = [
        PairedLevel(
            dict(enumerate(differences[:, level].tolist())),
            float(np.maximum(1, disagreements[:, level]).mean()) / images**2,
        )
        for level in complete
    ]
    tests = dict(zip(complete, paired_tests(families), strict=True))
    p_values = holm([tests[level].p_above(0.0) or 0.0 for level in complete], differences.shape[1])
    won = {level for level, p in zip(complete, p_values, strict=True) if p <= THRESHOLD}
    return [level in won for level in range(differences.shape[1])]


def winners_unresolved(arm: Arm, images: int) -> list[bool]:
    """Which rounds are winning if nothing is known of how finely the test set resolves, as for an RMSE."""
    differences, _ = arm
    complete = [level for level in range(differences.shape[1]) if not np.isnan(differences[:, level]).any()]
    families = [PairedLevel(dict(enumerate(differences[:, level].tolist())), 0.0) for level in complete]
    p_values = holm([test.p_above(0.0) or 0.0 for test in paired_tests(families)], differences.shape[1])
    won = {level for level, p in zip(complete, p_values, strict=True) if p <= THRESHOLD}
    return [level in won for level in range(differences.shape[1])]


def winners_before(arm: Arm, images: int) -> list[bool]:
    """Which rounds Student's paired t of each round and Holm's correction would call winning, without the rest."""
    p_values = []
    for values in arm.differences.T:
        known = values[~np.isnan(values)]
        if len(known) < 2:
            p_values.append(1.0)
            continue
        error = float(known.std(ddof=1)) / math.sqrt(len(known))
        p = PairedTest(len(known), float(known.mean()), error, len(known) - 1.0, 1e-12).p_above(0.0)
        p_values.append(p or 0.0)
    return [p <= THRESHOLD for p in holm(p_values)]


def wrong_arms(setting: Setting, arms: int, judge=winners, seed: int = 1) -> float:  # type: ignore[no-untyped-def]
    """The share of arms with any winning round."""
    draw = np.random.default_rng(seed)
    return sum(any(judge(simulate(setting, draw), setting.images)) for _ in range(arms)) / arms


def power(setting: Setting, arms: int, judge=winners, seed: int = 1) -> float:  # type: ignore[no-untyped-def]
    """The share of rounds that are winning."""
    draw = np.random.default_rng(seed)
    return float(np.mean([np.mean(judge(simulate(setting, draw), setting.images)) for _ in range(arms)]))


def null_settings() -> Iterator[Setting]:
    """Settings without a true difference, over which the share of arms with a false winner is held."""
    spreads = ((0.5, 0.5, 1.0), (3.0, 0.5, 1.0), (3.0, 1.0, 1.0), (2.0, 0.5, 6.0))
    for seeds, levels, images, stop in itertools.product((3, 5, 10, 20), (1, 2, 5, 20), (360, 10_000), (None, 0.5)):
        for dispersion, correlation, growth in spreads if levels > 1 else spreads[:2]:
            if stop is not None and (levels < 5 or growth > 1):
                continue
            spread = math.sqrt(dispersion * DISAGREEMENTS[images]) / images
            yield Setting(
                seeds, levels, images, dispersion, correlation, growth, stop=None if stop is None else stop * spread
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", metavar="N", type=int, default=1000, help="arms per setting (default: 1000)")
    arms = parser.parse_args().arms
    print("wrong arms, % (before): the worst of all spreads")
    print("| seeds | images | rounds | wrong | before | with `stop` | before |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    settings = list(null_settings())
    for seeds, images, levels in itertools.product((3, 5, 10, 20), (360, 10_000), (1, 2, 5, 20)):
        cells = [f"{seeds} | {images:,} | {levels}"]
        for stops in (False, True):
            chosen = [
                s
                for s in settings
                if (s.seeds, s.images, s.levels, s.stop is not None) == (seeds, images, levels, stops)
            ]
            for judge in (winners, winners_before):
                cells.append(f"{100 * max(wrong_arms(s, arms, judge) for s in chosen):.1f}" if chosen else "–")
        print(f"| {' | '.join(cells)} |", flush=True)
    print("\nrounds won, %, if every ticket is one point better than dense (before)")
    print("| images | rounds | spread, points | 3 seeds | 5 seeds | 10 seeds | 20 seeds |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for images, levels, dispersion in itertools.product((360, 10_000), (1, 5, 15), (1.0, 5.0)):
        spread = 100 * math.sqrt(dispersion * 1.5 * DISAGREEMENTS[images]) / images
        cells = [f"{images:,} | {levels} | {spread:.2f}"]
        for seeds in (3, 5, 10, 20):
            setting = Setting(seeds, levels, images, dispersion, gain=0.01)
            now, before = (power(setting, max(1, arms // 4), judge) for judge in (winners, winners_before))
            cells.append(f"{100 * now:.0f} ({100 * before:.0f})")
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
