"""The network of an arm without a prune is compared with every round of another arm, and with other such networks."""

from __future__ import annotations

import attrs
from test_arm_differences import CLEAR, HALVES, run_of

from tickdsl.records.events import Metric, Network
from tickdsl.results import RunState
from tickdsl.results.answers import answers
from tickdsl.results.arm_differences import arm_differences
from tickdsl.results.conclusions import conclusions
from tickdsl.results.export import results_dict
from tickdsl.results.table import results_text
from tickdsl.results.target_notes import target_notes


def with_network(state: RunState, name: str, accuracies: list[float]) -> RunState:
    """The run with an arm that is not pruned."""
    arm = attrs.evolve(state.arms[0], id=name, name=name, levels=0)
    metrics = dict(state.metrics)
    for seed, accuracy in zip(state.seeds, accuracies, strict=True):
        metrics[name, "dense", 0, seed] = Metric(
            arm=name, contestant="dense", level=0, seed=seed, step="s", accuracy=accuracy, loss=0.1, sparsity=0.0,
            params=4000, macs=4_000_000, test_images=10_000, chance=0.1,
        )  # fmt: skip
    return attrs.evolve(state, arms=(*state.arms, arm), metrics=metrics)


def test_every_round_is_compared_with_it() -> None:
    state = with_network(run_of({"a": CLEAR["a"]}, HALVES), "wide", [0.98, 0.9801, 0.9799])
    (difference,) = arm_differences(state)
    assert [(level.first_level, level.second_level) for level in difference.levels] == [(1, 0), (2, 0)]
    assert [level.verdict for level in difference.levels] == ["behind", "behind"]
    assert difference.first_unmatched == difference.second_unmatched == ()
    (sentence,) = answers(state)
    assert sentence.startswith("wide beats a by 3.99 ± ") and sentence.endswith(
        "25.0% of the weights (in all 2 rounds)"
    )


def test_two_such_networks_are_compared_at_full_size() -> None:
    state = run_of({"a": CLEAR["a"]}, HALVES)
    state = attrs.evolve(with_network(with_network(state, "wide", [0.98, 0.9801, 0.9799]), "small", [0.9] * 3))
    state = attrs.evolve(state, arms=state.arms[1:])
    (difference,) = arm_differences(state)
    assert [(level.first_level, level.second_level) for level in difference.levels] == [(0, 0)]
    assert answers(state) == ["wide beats small by 8.00 ± 0.39 points at full size"]


def test_it_has_a_row_and_a_conclusion_of_its_own() -> None:
    state = with_network(run_of({"a": CLEAR["a"]}, HALVES), "wide", [0.98, 0.9801, 0.9799])
    assert conclusions(state)["wide"] == "wide: a network that is not pruned"
    assert "98.00" in results_text(state)
    assert results_dict(state)["differences"][0]["levels"][0]["second_left"] is None


def test_before_it_is_measured_nothing_is_said() -> None:
    state = run_of({"a": CLEAR["a"]}, HALVES)
    arm = attrs.evolve(state.arms[0], id="wide", name="wide", levels=0)
    state = attrs.evolve(state, arms=(*state.arms, arm))
    assert answers(state) == []
    assert conclusions(state)["wide"] == "wide: no measurements"


def test_a_target_is_said_with_what_was_removed() -> None:
    state = run_of({"a": CLEAR["a"], "b": CLEAR["b"]}, HALVES)
    arms = (attrs.evolve(state.arms[0], target={"flops": 0.9}), attrs.evolve(state.arms[1], target={"later": 0.5}))
    network = Network(arms=("a", "b"), model="m", params=1000, macs=1_000_000, layers=())
    state = attrs.evolve(state, networks={"a": network, "b": network})
    assert list(target_notes(attrs.evolve(state, arms=arms))) == [
        "a: `to 90% of flops` ends with 93.75% of the multiply-adds removed, less than one unit (or `multiple`) beyond "
        "the target"
    ]
    assert list(target_notes(state)) == []
