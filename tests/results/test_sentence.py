"""The concluding sentence of an arm, for every combination of verdicts."""

from collections.abc import Mapping, Sequence

import pytest

from tickdsl.records.events import ArmInfo, Metric
from tickdsl.results import RunState
from tickdsl.results.conclusions import conclusions

DENSE = (0.90, 0.91, 0.92)
Gaps = Sequence[tuple[float, float, float]]  # per level, the difference from dense of each seed, in points

EVEN, BETTER, BELOW, NOISY = (0.29, 0.3, 0.31), (1.29, 1.3, 1.31), (-3.09, -3.1, -3.11), (-2.0, 0.0, 2.0)

NO_DIFFERENCE = "(no significant difference between the ticket and random-init at 25.0%)"


def sentence(contestants: Mapping[str, Gaps], seeds: int = 3, within: float = 0.0) -> str:
    metrics = {}

    def add(contestant: str, level: int, gaps: Sequence[float]) -> None:
        for seed in range(seeds):
            metrics["a", contestant, level, seed] = Metric(
                arm="a", contestant=contestant, level=level, seed=seed, step="s",
                accuracy=DENSE[seed] + gaps[seed] / 100, sparsity=1 - 0.5**level, test_images=1_000_000,
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
    ("ticket", "expected"),
    [
        ([EVEN, EVEN, BELOW], "a: winning tickets down to 25.0% of the weights (round 2)"),
        ([EVEN, EVEN, EVEN], "a: winning tickets down to 12.5% of the weights (round 3)"),
        (
            [EVEN, NOISY, EVEN],
            "a: the smallest winning ticket keeps 12.5% of the weights (round 3), but not every larger ticket wins",
        ),
        ([BELOW, BELOW], "a: no winning ticket: every round loses to dense"),
        ([NOISY, BELOW], "a: no winning ticket found; 1 of 2 rounds is undecided"),
        ([], "a: no measurements"),
    ],
)
def test_sentence_about_tickets(ticket: Gaps, expected: str) -> None:
    assert sentence({"ticket": ticket}) == expected


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ([EVEN, BELOW], "random-init loses to dense from 25.0% down (3.40 ± 0.05 points below the ticket at 25.0%)"),
        ([BELOW, BELOW], "random-init loses to dense from 50.0% down (3.40 ± 0.05 points below the ticket at 25.0%)"),
        ([BELOW, EVEN], f"random-init also wins down to 25.0% {NO_DIFFERENCE}"),
        ([EVEN, NOISY], f"random-init does not significantly lose to dense {NO_DIFFERENCE}"),
        ([EVEN, BETTER], "random-init also wins down to 25.0% (1.00 ± 0.04 points above the ticket at 25.0%)"),
    ],
)  # fmt: skip
def test_sentence_about_controls(control: Gaps, expected: str) -> None:
    assert sentence({"ticket": [EVEN, EVEN], "random-init": control}).partition("; ")[2] == expected


def test_a_control_without_a_winning_ticket_to_compare_with() -> None:
    assert sentence({"ticket": [BELOW], "random-init": [BELOW]}).endswith(
        "; random-init loses to dense from 50.0% down"
    )


@pytest.mark.parametrize(
    ("ticket", "within", "expected"),
    [
        ([EVEN, EVEN, BELOW], 0.0, "the ticket of round 2 (25.0% of the weights) is no worse than dense on this seed"),
        ([BELOW], 0.04, "the ticket of round 1 (50.0% of the weights) is at most 4 points below dense on this seed"),
        ([BELOW], 0.0, "every round is below dense on this seed"),
    ],
)  # fmt: skip
def test_one_seed_gets_no_verdict(ticket: Gaps, within: float, expected: str) -> None:
    assert sentence({"ticket": ticket}, seeds=1, within=within).endswith(expected)
    assert "no verdict" in sentence({"ticket": ticket}, seeds=1)
