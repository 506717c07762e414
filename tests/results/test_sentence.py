"""The closing sentence says what the figures say, in each of its turns."""

from collections.abc import Mapping, Sequence

import pytest

from tickdsl.records.events import ArmInfo, Metric
from tickdsl.results import RunState
from tickdsl.results.conclusions import conclusions

DENSE = (0.90, 0.91, 0.92)
Gaps = Sequence[tuple[float, float, float]]  # per level the distance to dense of each seed, in points

EVEN, BETTER, BELOW, NOISY = (0.29, 0.3, 0.31), (1.29, 1.3, 1.31), (-3.09, -3.1, -3.11), (-2.0, 0.0, 2.0)


def sentence(contestants: Mapping[str, Gaps], seeds: int = 3, within: float = 0.0) -> str:
    metrics = {}

    def add(contestant: str, level: int, gaps: Sequence[float]) -> None:
        for seed in range(seeds):
            metrics["a", contestant, level, seed] = Metric(
                arm="a", contestant=contestant, level=level, seed=seed, step="s",
                accuracy=DENSE[seed] + gaps[seed] / 100, sparsity=1 - 0.5**level,
            )  # fmt: skip

    add("dense", 0, (0, 0, 0))
    for contestant, levels in contestants.items():
        for level, gaps in enumerate(levels, 1):
            add(contestant, level, gaps)
    state = RunState(
        arms=(ArmInfo(id="a", name="a", sweep={}, levels=3),),
        contestants=("ticket", "dense", "random-init"),
        seeds=tuple(range(seeds)),
        metrics=metrics,
        within=within,
    )
    return conclusions(state)["a"]


@pytest.mark.parametrize(
    ("ticket", "said"),
    [
        ([EVEN, EVEN, BELOW], "a: winning down to 25.0 % of the weights (round 2)"),
        ([EVEN, EVEN, EVEN], "a: winning down to 12.5 % of the weights (round 3)"),
        (
            [EVEN, NOISY, EVEN],
            "a: the smallest winning ticket keeps 12.5 % of the weights (round 3), though not every larger one wins",
        ),
        ([BELOW, BELOW], "a: no winning ticket: every round loses against dense"),
        ([NOISY, BELOW], "a: no winning ticket is shown; 1 of 2 rounds undecided"),
        ([], "a: nothing was measured"),
    ],
)
def test_what_is_said_of_tickets(ticket: Gaps, said: str) -> None:
    assert sentence({"ticket": ticket}) == said


@pytest.mark.parametrize(
    ("rival", "said"),
    [
        ([EVEN, BELOW], "random-init loses from 25.0 %, 3.40 ± 0.05 points behind the ticket at 25.0 %"),
        ([BELOW, BELOW], "random-init loses from 50.0 %, 3.40 ± 0.05 points behind the ticket at 25.0 %"),
        ([BELOW, EVEN], "random-init wins down to 25.0 % too, no clear distance from the ticket at 25.0 %"),
        ([EVEN, NOISY], "random-init is not shown to lose, no clear distance from the ticket at 25.0 %"),
        ([EVEN, BETTER], "random-init wins down to 25.0 % too, 1.00 ± 0.00 points ahead of the ticket at 25.0 %"),
    ],
)  # fmt: skip
def test_what_is_said_of_rivals(rival: Gaps, said: str) -> None:
    assert sentence({"ticket": [EVEN, EVEN], "random-init": rival}).partition("; ")[2] == said


def test_a_rival_without_a_winning_ticket_to_compare_with() -> None:
    assert sentence({"ticket": [BELOW], "random-init": [BELOW]}).endswith("; random-init loses from 50.0 %")


@pytest.mark.parametrize(
    ("ticket", "within", "said"),
    [
        ([EVEN, EVEN, BELOW], 0.0, "on this seed 25.0 % of the weights (round 2) are enough to reach dense"),
        ([BELOW], 0.04, "on this seed 50.0 % of the weights (round 1) are enough to come within 4 points of dense"),
        ([BELOW], 0.0, "every round stays below dense on this seed"),
    ],
)  # fmt: skip
def test_one_seed_gets_no_verdict(ticket: Gaps, within: float, said: str) -> None:
    assert sentence({"ticket": ticket}, seeds=1, within=within).endswith(said)
    assert "no verdict" in sentence({"ticket": ticket}, seeds=1)
