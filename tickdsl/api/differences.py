"""Two arms of a run compared, as an object."""

from __future__ import annotations

import attrs

from tickdsl.results.answers import answer
from tickdsl.results.arm_differences import ArmDifference, MatchedLevels, arm_differences
from tickdsl.results.state import RunState


@attrs.frozen(repr=False)
class Difference:
    """Two arms compared with each other, round by round.

    Attributes:
        first: The id of one arm.
        second: The id of the other.
        answer: Which is better, in a sentence.
        matched_by: What compared rounds have in common: "weights", "flops", "params" or "level".
        metric: The name of the metric that both are compared by.
        levels: The pairs of rounds, from the largest network to the smallest: `first_level` and `second_level`,
            `first_left` and `second_left` (the shares that are left), `difference` (an estimate of the first arm's
            score minus the second's) and `verdict` ("ahead", "behind" or "undecided" for the first arm,
            None without a verdict, and then `no_verdict` says why).
        first_unmatched: The rounds of the first arm that no round of the second matches.
        second_unmatched: The rounds of the second arm that no round of the first matches.
    """

    first: str
    second: str
    answer: str
    matched_by: str
    metric: str
    levels: tuple[MatchedLevels, ...]
    first_unmatched: tuple[int, ...]
    second_unmatched: tuple[int, ...]

    def __repr__(self) -> str:
        return f"<Difference {self.first} - {self.second}: {self.answer}>"


def differences(state: RunState) -> tuple[Difference, ...]:
    """The differences of all pairs of arms, in plan order."""
    return tuple(_difference(found) for found in arm_differences(state))


def _difference(found: ArmDifference) -> Difference:
    return Difference(
        found.first,
        found.second,
        answer(found),
        found.matched_by,
        found.metric.name,
        found.levels,
        found.first_unmatched,
        found.second_unmatched,
    )
