"""Conditions that can never hold, or hold at once, are found; all others are not."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.checks.conditions import Range, metric_ranges
from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.graph_cache import dense_graph
from tickdsl.engine.steps.network_size import structure_metrics
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Condition
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.selection import prune

NEVER, AT_ONCE = {"TD205", "TD514"}, {"TD520"}


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("test.plan", text))).diagnostics}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prune weights 30% until flops <= 200000; rewind lr", NEVER),
        ("prune weights 30% until params <= 173; rewind lr", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when params < 174", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when params < 1000", NEVER),
        ("prune filters 30% x 4; rewind lr\nstop when flops < 100", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when flops > 300000", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when accuracy < 0%", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when flops > 100000", AT_ONCE),
        ("prune weights 30% x 4; rewind lr\nstop when sparsity < 31%", AT_ONCE),
        ("prune weights 30% until sparsity >= 25%; rewind lr", AT_ONCE),
        ("prune weights 30% x 4; rewind lr\nstop when loss >= 0", AT_ONCE),
        ("prune weights 30% x 4; rewind lr\nstop when loss < -0.5", NEVER),
        ("prune weights 30% x 4; rewind lr\nstop when params < -1", NEVER),
        ("model conv-vae\nprune weights 30% x 4; rewind lr\nstop when kl > -1", AT_ONCE),
        ("model conv-vae\nprune weights 30% until kl < -1; rewind lr", NEVER),
        ("model small-cnn on shapes-places\nprune weights 30% until r2 > 1.5; rewind lr", NEVER),
    ],
)
def test_conditions_that_decide_nothing(text: str, expected: set[str]) -> None:
    assert codes(text) & (NEVER | AT_ONCE) <= expected
    assert codes(text) & expected


@pytest.mark.parametrize(
    "text",
    [
        "prune weights 30% until sparsity > 31%; rewind lr",
        "prune weights 30% until params < 175; rewind lr",
        "prune filters 30% until flops < 100000; rewind lr",
        "prune weights 30% x 4; rewind lr\nstop when accuracy < 90%",
        "prune weights 30% x 1; rewind lr\nstop when sparsity > 20%",  # there is only one level to stop after
        "arm a { prune weights 30% x 4; rewind lr }\narm b { prune filters 30% x 4; rewind lr }\n"
        "stop when flops < 99999",
        "arm a { prune weights 30% x 4; rewind lr }\narm b { prune weights 90% x 2; rewind lr }\n"
        "stop when sparsity >= 50%",
        "model conv-vae\nprune weights 30% x 4; rewind lr\nstop when elbo < -120",
        "model conv-vae\nprune weights 30% x 4 until loss < -1; rewind lr",
        "model small-cnn on shapes-places\nprune weights 30% x 4 until r2 > -0.5; rewind lr",
    ],
)
def test_conditions_that_decide_something(text: str) -> None:
    assert not codes(text) & (NEVER | AT_ONCE)


@pytest.mark.parametrize("comparison", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("bound", [0.0, 1.0, 2.0, 3.0, 4.0])
def test_a_range_knows_what_all_and_none_of_its_values_meet(comparison: str, bound: float) -> None:
    condition = Condition("loss", comparison, bound)
    met = [condition.holds(value) for value in (1.0, 1.5, 2.0, 2.5, 3.0)]
    assert Range(1, 3).always(condition) == all(met)
    assert Range(1, 3).never(condition) == (not any(met))


@pytest.mark.parametrize(
    "pipeline",
    ["prune weights 35% x 6", "prune weights local 60% x 3", "prune filters 45% x 5 by l2", "prune layers 1 x 2 by l1"],
)
def test_what_pruning_leaves_is_in_the_ranges(pipeline: str) -> None:
    plan = resolve(load_source(Source("test.plan", f"model resnet20\n{pipeline}; rewind lr"))).plan
    assert plan is not None
    arm, graph = plan.arms[0], dense_graph(plan.arms[0], None)
    state = dense_network("resnet20", b"{}", 10, (1, 8, 8)).module.state_dict()
    ranges, structure, rows = metric_ranges(arm, graph, graph), Structure.dense(graph), []
    node = arm.rounds[0].prune
    for index in range(node.times or 1):
        left = slice_state_dict(graph, state, Structure.dense(graph), structure)
        structure = prune(ScoringContext(graph, structure, left), prune_args(node, index, node.times or 1, head=False))
        sizes = structure_metrics(graph, structure)
        rows.append({"params": sizes["params"], "flops": sizes["macs"], "sparsity": sizes["sparsity"]})
    assert ranges.levels == len(rows)
    tolerance, first = 1e-9, ranges.first_level  # shares are rounded
    for row, possible in [(rows[0], first), *((row, ranges.any_level) for row in rows)]:
        for name, value in row.items():
            assert possible[name].least - tolerance <= value <= possible[name].most + tolerance, name
    if node.unit == "weights":  # then the ranges are exact
        assert ranges.any_level["params"].least == rows[-1]["params"]
        assert first["sparsity"].least == pytest.approx(rows[0]["sparsity"])


#: Tickets of a network of 90,000 parameters, carried to one of 7 layers of 60 and to one of 2.
ELASTIC = "model lenet-300-100 on digits width=0.2 depth=3\ntrain 2ep lr=0.1\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The stretched network has 28,254 parameters, the one that is pruned 13,854.
        ("prune weights 30% until params < 20000; rewind weights to 1ep\nstretch to lenet-300-100 depth=7", set()),
        ("prune weights 30% until params < 60%; rewind weights to 1ep\nstretch to lenet-300-100 depth=7", set()),
        (
            "prune weights 30% x 2; rewind weights to 1ep\nstretch to lenet-300-100 depth=7\nstop when params < 20000",
            set(),
        ),
        ("prune neurons 30% x 4 until flops < 12000; rewind weights to 1ep\nstretch to lenet-300-100 depth=7", set()),
        ("prune weights 30% until params > 30000; rewind weights to 1ep\nstretch to lenet-300-100 depth=7", NEVER),
        ("prune weights 30% until flops < 20000; rewind weights to 1ep\nstretch to lenet-300-100 depth=7", NEVER),
        (
            "prune weights 30% x 2; rewind weights to 1ep\nsqueeze to lenet-300-100 depth=1\nstop when params < 9000",
            AT_ONCE,
        ),
    ],
)
def test_conditions_are_about_the_network_that_tickets_are_carried_to(text: str, expected: set[str]) -> None:
    found = codes(f"{ELASTIC}{text}\n") & (NEVER | AT_ONCE)
    assert found == set() if not expected else found & expected
