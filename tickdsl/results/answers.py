"""Answers a plan's questions in a sentence each: which of two arms is better, and where."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.plurals import plural
from tickdsl.results.arm_differences import TOLERANCE, ArmDifference, MatchedLevels, arm_differences
from tickdsl.results.formatting import percent
from tickdsl.results.scores import ACCURACY, difference_with_unit, label
from tickdsl.results.standings import AHEAD, BEHIND
from tickdsl.results.state import RunState

_LEFT = {"weights": "of the weights", "level": "of the weights", "flops": "of the FLOPs", "params": "of the parameters"}

_HOW_MATCHED = (
    "rounds of two arms are compared if what is left differs by at most 5%; `compare … at=level` pairs them by number"
)


def answers(state: RunState) -> list[str]:
    """One sentence for every pair of arms that a run compares; none before the first level of a pair is measured.

    If rounds of some pairs do not match, a last sentence says how rounds are matched.
    """
    differences = [difference for difference in arm_differences(state) if is_measured(difference)]
    sentences = [answer(difference) for difference in differences]
    return [*sentences, _HOW_MATCHED] if any(not difference.levels for difference in differences) else sentences


def answer(difference: ArmDifference) -> str:
    """Which of two arms is better, by how much, and at which size: the smallest one that is decided."""
    context = f"{difference.context}: " if difference.context else ""
    return context + _clause(difference)


def is_measured(difference: ArmDifference) -> bool:
    """Whether there is something to say about two arms: rounds that match, or rounds of both that do not."""
    return bool(difference.levels or (difference.first_unmatched and difference.second_unmatched))


def is_decided(difference: ArmDifference) -> bool:
    """Whether one arm is shown to be better than the other in some round."""
    return any(level.verdict in (AHEAD, BEHIND) for level in difference.levels)


def _clause(difference: ArmDifference) -> str:
    first, second = difference.first_name, difference.second_name
    if not difference.levels:
        return f"{first} and {second} have no rounds of the same size to compare"
    ahead = [level for level in difference.levels if level.verdict == AHEAD]
    behind = [level for level in difference.levels if level.verdict == BEHIND]
    if ahead or behind:
        winner, loser, won, lost = (first, second, ahead, behind) if ahead else (second, first, behind, ahead)
        sentence = f"{winner} beats {loser} by {_at(won[-1], difference)}"
        if lost:
            return f"{sentence}, and loses to it by {_at(lost[-1], difference)}"
        return f"{sentence}{_how_often(won, difference)}"
    judged = [level for level in difference.levels if level.verdict is not None]
    if judged:
        return f"no significant difference between {first} and {second} ({_which(judged, difference)})"
    return f"no verdict on {first} against {second}: {difference.levels[-1].no_verdict}"


def _at(level: MatchedLevels, difference: ArmDifference) -> str:
    """The size of a difference and where it was measured: `0.72 ± 0.63 points at 36% of the weights`."""
    assert level.difference is not None
    distance = _named(difference, difference_with_unit(difference.metric, level.difference, signed=False))
    return f"{distance} at {_size(level, difference)}"


def _named(difference: ArmDifference, shown: str) -> str:
    """A difference with the name of the metric, unless that is the accuracy: `0.012 ± 0.003 in RMSE`."""
    return shown if difference.metric == ACCURACY else f"{shown} in {label(difference.metric)}"


def _which(judged: Sequence[MatchedLevels], difference: ArmDifference) -> str:
    """The rounds without a decision, with the difference of the smallest."""
    between = _named(difference, difference_with_unit(difference.metric, judged[-1].difference))
    shown = f"{between} at {_size(judged[-1], difference)}"
    return shown if len(judged) == 1 else f"{plural(len(judged), 'round')}; {shown}"


def _how_often(won: Sequence[MatchedLevels], difference: ArmDifference) -> str:
    judged = sum(level.verdict is not None for level in difference.levels)
    if judged == 1:
        return ""
    return f" (in {'all' if len(won) == judged else f'{len(won)} of'} {plural(judged, 'round')})"


def _size(level: MatchedLevels, difference: ArmDifference) -> str:
    shares = [share for share in (level.first_left, level.second_left) if share is not None]
    if not shares:
        return f"round {level.first_level}" if level.first_level else "full size"
    share = percent(sum(shares) / len(shares))
    if difference.matched_by == "level":
        low, high = min(shares), max(shares)
        left = share if high - low <= TOLERANCE * high else f"{percent(high)} and {percent(low)}"
        return f"round {level.first_level} ({left} of the weights)"
    return f"{share} {_left(difference)}"


def _left(difference: ArmDifference) -> str:
    """What the shares are of; events of a later version may match levels in ways that are unknown here."""
    return _LEFT.get(difference.matched_by, _LEFT["weights"])
