"""Which ticket is taken: the smallest winning one, else the most accurate one, with the seed of median accuracy."""

from __future__ import annotations

import attrs
import pytest
from finished_runs import finished_run

from tickdsl.errors import TicketError
from tickdsl.results.standings import WINNING, compute_standings
from tickdsl.results.state import RunState
from tickdsl.tickets.choice import Choice, Wanted, choose

SEEDS = (1, 2, 3, 4, 5)


def with_accuracies(level: int, accuracies: dict[int, float], state: RunState) -> RunState:
    """The run with these accuracies of the ticket of `colt` at a level, by seed."""
    metrics = dict(state.metrics)
    for seed, accuracy in accuracies.items():
        key = ("colt", "ticket", level, seed)
        metrics[key] = attrs.evolve(metrics[key], accuracy=accuracy, correct=None)
    return attrs.evolve(state, metrics=metrics)


def test_the_smallest_winning_ticket_is_taken() -> None:
    state = finished_run(SEEDS)
    standings = compute_standings(state)
    tickets = {
        key: standing for key, standing in standings.items() if standing.verdict == WINNING and key[1] == "ticket"
    }
    assert tickets, "the run must have winning tickets"
    smallest = max(key[2] for key in tickets)
    equal = [standing for key, standing in tickets.items() if key[2] == smallest and standing.score]
    best = max(equal, key=lambda standing: standing.score.mean if standing.score else 0.0)
    choice = choose(state, Wanted())
    assert (choice.arm.id, choice.level) == (best.arm, best.level)
    assert choice.why_level.startswith("the smallest winning ticket (")
    assert "of the weights" in choice.why_level


def test_without_a_winning_ticket_the_most_accurate_one_is_taken() -> None:
    state = with_accuracies(3, {1: 0.99, 2: 0.98}, finished_run((1, 2)))  # two seeds: no verdicts
    choice = choose(state, Wanted())
    assert (choice.arm.id, choice.level) == ("colt", 3)
    assert choice.why_level == "no ticket is shown to win, and this one is the most accurate (98.50%)"


@pytest.mark.parametrize(
    ("accuracies", "median"),
    [
        ({1: 0.5, 2: 0.9, 3: 0.7}, 3),
        ({1: 0.9, 2: 0.5, 3: 0.7, 4: 0.8}, 3),  # of 0.7 and 0.8, the lower one
        ({1: 0.9, 2: 0.5}, 2),
        ({1: 0.7, 2: 0.7, 3: 0.7}, 2),  # equal ones by their number
        ({7: 0.3}, 7),
    ],
)
def test_the_seed_is_the_median_and_the_lower_one_of_two(accuracies: dict[int, float], median: int) -> None:
    state = with_accuracies(2, accuracies, finished_run(tuple(accuracies)))
    choice = choose(state, Wanted(arm="colt", level=2))
    assert choice.seed == median
    assert choice.metric.accuracy == accuracies[median]
    assert choice.dense == state.metrics["colt", "dense", 0, median]


def picked(choice: Choice) -> tuple[str, str, int, int]:
    return choice.arm.id, choice.contestant, choice.level, choice.seed


def test_everything_can_be_named() -> None:
    state = finished_run(SEEDS)
    assert picked(choose(state, Wanted(arm="imp", level=4, seed=5))) == ("imp[scope=local]", "ticket", 4, 5)
    assert choose(state, Wanted(sweep={"scope": "local"})).arm.id == "imp[scope=local]"
    assert picked(choose(state, Wanted(arm="colt", level=1, seed=2, contestant="random-init"))) == (
        "colt", "random-init", 1, 2,
    )  # fmt: skip
    for wanted in (Wanted(arm="colt", level=0, seed=3), Wanted(arm="colt", contestant="dense", seed=3)):
        assert picked(choose(state, wanted)) == ("colt", "dense", 0, 3)


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (Wanted(arm="cold"), "the run has no arm `cold`", "its arms are colt, imp[scope=local]"),
        (Wanted(level=9), "colt, imp[scope=local] has no level 9: the plan has 4 rounds", "levels 1, 2, 3, 4"),
        (Wanted(arm="colt", level=2, seed=8), "level 2 of arm colt was not trained with seed 8", "seeds 1, 2, 3, 4, 5"),
        (Wanted(sweep={"width": "2"}), "--set width=2: the run has no sweep `width`", "its sweeps are scope"),
        (Wanted(sweep={"scope": "x"}), "--set scope=x: `scope` has no such value", "its values are local"),
        (Wanted(contestant="early"), "`early` was not measured for colt, imp[scope=local]", "tickdsl report"),
    ],
)
def test_what_a_run_does_not_have(wanted: Wanted, message: str, hint: str) -> None:
    with pytest.raises(TicketError) as caught:
        choose(finished_run(SEEDS), wanted)
    assert caught.value.message == message
    assert hint in (caught.value.hint or "")


def test_runs_without_levels() -> None:
    state = finished_run()
    with pytest.raises(TicketError, match="the run has no levels: no network was measured"):
        choose(attrs.evolve(state, metrics={}), Wanted())
    only_dense = {key: metric for key, metric in state.metrics.items() if key[1] == "dense"}
    with pytest.raises(TicketError, match=r"the run has no levels of colt, imp\[scope=local\]"):
        choose(attrs.evolve(state, metrics=only_dense), Wanted())
    unmeasured = [4]
    missing = {key: metric for key, metric in state.metrics.items() if key[2] not in unmeasured}
    with pytest.raises(TicketError, match="level 4 of colt was not trained in this run"):
        choose(attrs.evolve(state, metrics=missing), Wanted(arm="colt", level=4))
