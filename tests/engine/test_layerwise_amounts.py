"""Plans with budgets, rates, densities and multiples, run for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from step_runner import StepRunner, step_runner

from tickdsl.engine.building import trace_model
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.inspect.level_forecast import forecast_levels
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.prune_arguments import prune_args
from tickdsl.pruning.amounts import round_half_up
from tickdsl.pruning.criteria import ScoringContext
from tickdsl.pruning.rounds import prune
from tickdsl.training.models import create

RESNET = "model resnet20 width=0.25\ndata synthetic size=8 train=64 test=32\ntrain 1ep lr=0.05 batch=32\n"


def graph_of(found: StepRunner, key: str) -> ModelGraph:
    return found.context.dense_network(found.study.step(key)).graph


def level_metrics(found: StepRunner, arm: str = "ticket") -> list[dict]:
    return [found.metrics(level.ticket) for level in found.levels(arm)]


@pytest.mark.parametrize(("cost", "field"), [("flops", "macs"), ("params", "params")])
def test_rounds_to_a_budget_go_in_geometric_steps(tmp_path: Path, cost: str, field: str) -> None:
    found = step_runner(tmp_path, f"prune filters to 60% of {cost} x 3; rewind lr")
    whole = found.metrics(found.measured_step("dense", 0))[field]
    left = [metrics[field] / whole for metrics in level_metrics(found)]
    for number, share in enumerate(left, 1):
        assert 0 <= 0.4 ** (number / 3) - share < 0.06  # less than a filter of this small network
    (arm,) = found.study.plan.arms
    forecast = forecast_levels(found.study, arm, tmp_path)
    assert [row[field] / whole <= 0.4 ** (number / 3) + 1e-9 for number, row in enumerate(forecast)] == [True] * 4


def test_blocks_reach_a_budget_too(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune layers to 40% of flops by l1; rewind lr", head=RESNET)
    whole = found.metrics(found.measured_step("dense", 0))["macs"]
    (metrics,) = level_metrics(found)
    assert 0.4 <= 1 - metrics["macs"] / whole < 0.4 + 0.12


def test_masks_reach_a_share_of_the_parameters_exactly(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights erk to 75% of params x 2 by magnitude; rewind weights")
    whole = found.metrics(found.measured_step("dense", 0))["params"]
    assert [metrics["params"] for metrics in level_metrics(found)] == [whole // 2, whole // 4]


def test_rates_remove_their_share_of_each_layer(tmp_path: Path) -> None:
    text = (
        'arm remaining { prune weights ["conv*": 20%, fc: 10%] x 2; rewind weights }\n'
        'arm original { prune weights ["conv1": 20%, "**": 30%] of original x 2; rewind weights }\n'
        "arm target { prune weights to [fc: 90%] x 2; rewind weights }\n"
    )
    found = step_runner(tmp_path, text)
    level = found.levels("remaining")[0]
    graph = graph_of(found, level.structure)
    sizes = {name: pair[1] for name, pair in remaining_weights(graph, found.structure(level.structure)).items()}

    def left(arm: str) -> list[dict[str, int]]:
        structures = [found.structure(level.structure) for level in found.levels(arm)]
        return [{name: pair[0] for name, pair in remaining_weights(graph, s).items()} for s in structures]

    first, second = left("remaining")
    for name, size in sizes.items():
        rate = 0.1 if name.startswith("fc") else 0.2 if name.startswith("conv") else 0.0
        assert first[name] == size - round_half_up(rate * size)
        assert second[name] == first[name] - round_half_up(rate * first[name])
    for name, size in sizes.items():
        rate = 0.2 if name.startswith("conv1") else 0.3
        assert left("original")[1][name] == size - round_half_up(2 * rate * size)
    for name, size in sizes.items():
        assert left("target")[1][name] == (size - round_half_up(0.9 * size) if name.startswith("fc") else size)


def test_the_widths_of_a_ticket_are_multiples(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune filters 40% x 2 multiple=2; rewind lr")
    for level in found.levels("ticket"):
        kept = found.structure(level.structure).kept
        assert kept and all(len(units) % 2 == 0 for units in kept.values())
        found.metrics(level.ticket)


def test_the_other_end_of_a_ranking_is_another_ticket(tmp_path: Path) -> None:
    text = "arm winning { prune filters local 50% by l2; rewind weights }\n"
    text += "arm losing { prune filters local 50% by l2 order=highest; rewind weights }"
    found = step_runner(tmp_path, text)
    winning, losing = (found.structure(found.levels(arm)[0].structure) for arm in ("winning", "losing"))
    assert all(not np.intersect1d(units, losing.kept[name]).size for name, units in winning.kept.items())


@pytest.mark.parametrize("scope", ["erk", "balanced"])
def test_random_masks_at_init_have_the_densities_of_the_scope(tmp_path: Path, scope: str) -> None:
    found = step_runner(tmp_path, f"prune weights {scope} to 80% by random at init", head=RESNET)
    (level,) = found.levels("ticket")
    pairs = remaining_weights(graph_of(found, level.structure), found.structure(level.structure))
    sizes = {name: whole for name, (_, whole) in pairs.items()}
    assert sum(left for left, _ in pairs.values()) == sum(sizes.values()) - round_half_up(0.8 * sum(sizes.values()))
    partial = {name: left for name, (left, whole) in pairs.items() if left < whole}
    weights = {
        name: 1 if scope == "balanced" else sum(graph_of(found, level.structure).weights[name].shape)
        for name in partial
    }
    ratios = [partial[name] / weights[name] for name in partial]
    assert max(ratios) - min(ratios) < 2
    assert found.metrics(level.ticket)["sparsity"] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(("unit", "match", "field"), [("filters", "flops", "macs"), ("weights", "params", "params")])
def test_a_random_structure_costs_as_much_as_the_ticket(tmp_path: Path, unit: str, match: str, field: str) -> None:
    text = f"prune {unit} 40% x 2; rewind weights\ncompare random-structure match={match}"
    found = step_runner(tmp_path, text)
    whole = found.metrics(found.measured_step("dense", 0))[field]
    for level in (1, 2):
        ticket, control = (
            found.metrics(found.measured_step(contestant, level)) for contestant in ("ticket", "random-structure")
        )
        assert 0 <= ticket[field] - control[field] < 0.06 * whole
        step = found.study.step(found.measured_step("random-structure", level))
        assert found.study.step(step.parents["structure"]).args["scope"] == {"unit": unit}


def test_shares_of_stages_may_refer_to_the_dense_network(tmp_path: Path) -> None:
    text = "arm left { prune weights local [10%, 20%, 30%] x 2; rewind weights }\n"
    text += "arm whole { prune weights local [10%, 20%, 30%] of original x 2; rewind weights }\n"
    found = step_runner(tmp_path, text, head=RESNET)
    left, whole = (found.levels(arm) for arm in ("left", "whole"))
    assert found.structure(left[0].structure) == found.structure(whole[0].structure)
    graph = graph_of(found, whole[1].structure)
    pairs = remaining_weights(graph, found.structure(whole[1].structure))
    for name, (kept, size) in pairs.items():
        rate = next((share for stage, share in STAGES.items() if name.startswith(stage)), 0.0)
        assert size - kept == round_half_up(2 * rate * size), name


STAGES = {"conv1.": 0.1, "layer1.": 0.1, "layer2.": 0.2, "layer3.": 0.3}


def test_rates_in_one_statement_are_the_two_prunes_of_a_cycle() -> None:
    """The rates of LeNet in Frankle & Carbin 2019: 20% of the hidden and 10% of the output weights per round."""
    graph = trace_model("lenet-300-100", b"{}", 10, (1, 28, 28))
    state = create("lenet-300-100", classes=10, shape=(1, 28, 28), seed=1).state_dict()
    both = "cycle 15 { prune weights local 20% in fc1, fc2; prune weights local 10% in fc3; rewind weights }"
    found = []
    for pipeline in (both, 'prune weights [fc3: 10%, "fc*": 20%] x 15; rewind weights'):
        plan = resolve(load_source(Source("x.plan", f"model lenet-300-100 on mnist\n{pipeline}"))).plan
        assert plan is not None
        structure = Structure.dense(graph)
        for group in plan.arms[0].rounds:
            for index in range(group.prune.times or 1):
                left = slice_state_dict(graph, dict(state), Structure.dense(graph), structure)
                args = prune_args(group.prune, index, group.prune.times or 1, head=False)
                structure = prune(ScoringContext(graph, structure, left), args)
        found.append(structure)
    assert found[0] == found[1]
