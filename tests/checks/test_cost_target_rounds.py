"""A plan with a budget that `check` accepts ends within one unit of it in every round; others are refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tickdsl.checks import check
from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR, dense_graph, image_shape_and_classes
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Plan, ToCost
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.rounds import prune
from tickdsl.records.canonical import canonical_json
from tickdsl.training.catalogue import architecture_options

NETWORKS = {
    "small-cnn": ("filters", "weights"),
    "small-cnn width=0.5": ("filters", "weights"),
    "resnet20 width=0.25": ("filters", "layers", "weights"),
    "vgg11 width=0.25": ("filters", "layers", "weights"),
    "lenet-300-100 width=0.1": ("neurons", "weights"),
}


def settings_of(model: str) -> str:
    return f"model {model}\ndata digits{' size=32' if model.startswith('vgg') else ''}\ntrain 1ep\n"


def checked(text: str) -> tuple[Plan | None, set[str]]:
    report = check(load_source(Source("test.plan", text)))
    errors = {d.code for d in report.diagnostics if d.severity == "error"}
    return report.plan, errors


def carry_out(plan: Plan) -> list[tuple[float, Structure]]:
    """The structures after every round, pruned without training, each with the share it is to reach (0 for others)."""
    (arm,) = plan.arms
    graph = dense_graph(arm, None)
    options = canonical_json(architecture_options(arm.model.options))
    shape, classes = image_shape_and_classes(arm.data, DEFAULT_DATA_DIR)
    state = dense_network(arm.model.name, options, classes, shape).module.state_dict()
    dense = Structure.dense(graph)
    structure, reached = dense, []
    for group in arm.rounds:
        times = group.prune.times or 1
        for index in range(times):
            args = prune_args(group.prune, index, times, head=False)
            left = slice_state_dict(graph, state, dense, structure)
            structure = prune(ScoringContext(graph, structure, left, torch.Generator().manual_seed(index)), args)
            reached.append((args["to"] if isinstance(group.prune.amount, ToCost) else 0.0, structure))
    return reached


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_check_accepts_runs_and_reaches_its_target(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(sorted(NETWORKS)))
    unit = data.draw(st.sampled_from(NETWORKS[model]))
    cost = "params" if unit == "weights" else data.draw(st.sampled_from(["flops", "params"]))
    share, times = data.draw(st.integers(1, 99)), data.draw(st.integers(1, 12))
    scope = data.draw(st.sampled_from(["", "global", "local"]))
    by = data.draw(st.sampled_from(["", "by random"])) if unit != "layers" else "by l1"
    multiple = data.draw(st.sampled_from(["", "multiple=4"])) if unit in ("filters", "neurons") else ""
    earlier = data.draw(st.sampled_from(["", "prune weights 30%", "prune filters 10%", "prune filters local 20%"]))
    assume("filters" not in earlier or "filters" in NETWORKS[model])
    text = f"{settings_of(model)}{earlier}\n"
    text += f"prune {unit} {scope} to {share}% of {cost} x {times} {by} {multiple}"
    plan, errors = checked(text)
    if plan is None:
        assert errors <= {"TD430", "TD431", "TD436"}, (text, errors)
        return
    graph = dense_graph(plan.arms[0], None)
    whole = COUNTS[cost](graph, Structure.dense(graph))
    for target, structure in carry_out(plan):
        left = COUNTS[cost](graph, structure)
        assert left <= (1 - target) * whole + 1e-6


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_check_accepts_keeps_multiples(data: st.DataObject) -> None:
    model = data.draw(
        st.sampled_from(["small-cnn", "resnet20 width=0.5", "vgg11 width=0.25", "lenet-300-100 width=0.1"])
    )
    unit = NETWORKS.get(model, ("filters",))[0]
    scope = data.draw(st.sampled_from(["global", "local"]))
    amount = data.draw(st.sampled_from(["{}%", "to {}%", "{}% of original", "{}"]))
    number, times = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 4))
    multiple = data.draw(st.sampled_from([2, 4, 8]))
    text = settings_of(model)
    text += f"prune {unit} {scope} {amount.format(number)} x {times} multiple={multiple}"
    plan, errors = checked(text)
    if plan is None:
        assert errors <= {"TD436", "TD404", "TD405", "TD204"}, (text, errors)
        return
    for _, structure in carry_out(plan):
        assert all(len(units) % multiple == 0 for units in structure.kept.values()), text


def test_a_target_that_is_reached_is_refused_and_would_fail() -> None:
    text = "model small-cnn on digits\ntrain 1ep\nprune filters local 50%\nprune filters to 30% of flops"
    assert checked(text)[1] == {"TD431"}
    plan = check(load_source(Source("test.plan", text)), network=False).plan
    assert plan is not None
    with pytest.raises(TickdslError, match="would remove nothing"):
        carry_out(plan)
