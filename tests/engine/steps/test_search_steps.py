"""Prunes that search their amounts, run for real: what is stored, shared, interrupted and told."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import StepRunner, step_runner

from tickdsl.engine.messages import Stopped
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.operations import run_step
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.inspect.search_forecast import SearchForecast, forecast_searches
from tickdsl.plan.search_steps import candidate_step
from tickdsl.plan.steps import Step
from tickdsl.pruning.cost_targets import COUNTS
from tickdsl.training.batch_statistics import recompute_statistics
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.rng import generator

HEAD = (
    "model small-cnn width=0.5\ndata synthetic size=8 train=192 test=32 classes=4 validation=25%\n"
    "train 3ep lr=0.1 batch=32\n"
)
TWO = (
    "arm first { prune filters searched to 40% of flops by l1; rewind lr }\n"
    "arm second { prune filters searched to 60% of flops by l1; rewind lr }"
)


def prune_of(found: StepRunner, arm: str) -> Step:
    return found.study.step(found.levels(arm)[0].structure)


def candidates(context: Context) -> set[str]:
    return {result.key for result in context.store.results("candidate")}


def test_a_second_amount_reuses_most_of_the_first(tmp_path: Path) -> None:
    found = step_runner(tmp_path, TWO, head=HEAD)
    first = found.metrics(prune_of(found, "first").key)
    made = candidates(found.context)
    assert first["search_reused"] == 0
    assert len(made) == first["search_evaluations"]
    forecast = forecast_searches(found.study, [prune_of(found, "second").key], found.context.store, tmp_path)
    second = found.metrics(prune_of(found, "second").key)
    assert second["search_reused"] >= first["search_evaluations"] / 2
    assert len(candidates(found.context) - made) == second["search_evaluations"] - second["search_reused"]
    assert isinstance(forecast, SearchForecast)
    assert forecast.evaluations >= second["search_evaluations"]
    assert len(made) / 2 <= forecast.stored <= second["search_reused"]


def test_keys_do_not_depend_on_the_amount_but_on_the_network(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, TWO + "\narm other { prune filters searched 20% by l2; rewind lr }\nseeds 2", head=HEAD
    )
    first, second, other = (prune_of(found, arm) for arm in ("first", "second", "other"))
    removed = {"conv1": 2, "conv2": 0}
    key = candidate_step(first, removed).key
    assert key == candidate_step(second, {"conv1": 2}).key
    assert key != candidate_step(first, {"conv1": 3}).key
    assert key != candidate_step(other, removed).key  # another criterion chooses other filters
    assert key != candidate_step(found.study.step(found.levels("first", seed=2)[0].structure), removed).key


def test_an_interrupted_search_goes_on_and_finds_the_same(tmp_path: Path) -> None:
    text = "prune filters searched to 40% of flops by l1; rewind lr"
    whole = step_runner(tmp_path / "whole", text, head=HEAD)
    key = whole.levels("ticket")[0].structure
    expected = whole.metrics(key)

    part = step_runner(tmp_path / "part", text, head=HEAD)
    (training,) = (k for k in part.study.graph.predecessors(key) if part.study.step(k).operation == "train")
    part.run_step(training)
    calls = 0

    def stop_later(save: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 7:
            raise Stopped

    reports: list[tuple[str, int, int]] = []
    hooks = part.context.hooks
    hooks.between_steps = stop_later
    hooks.search_progress = lambda *report: reports.append(report)
    with pytest.raises(Stopped):
        part.run_step(key)
    assert len(candidates(part.context)) == 7
    assert [(done, total) for _, done, total in reports] == [(n, reports[0][2]) for n in range(1, 8)]
    assert key not in part.context.store

    hooks.between_steps = lambda save: None
    again = part.metrics(key)
    assert part.structure(key) == whole.structure(key)
    assert again["search_reused"] == 7
    assert {**again, "search_reused": 0} == expected


def test_an_evaluation_is_what_it_says(tmp_path: Path) -> None:
    """The network with these units removed, its statistics computed anew, tested on the validation data."""
    found = step_runner(tmp_path, "prune filters searched to 40% of flops by l1; rewind lr", head=HEAD)
    step = prune_of(found, "ticket")
    metrics = found.metrics(step.key)
    network = found.context.dense_network(step)
    structure = found.structure(step.key)
    removed = {name: count for name, (count, _) in metrics["search_removed"].items()}
    stored = found.context.store.get(candidate_step(step, removed).key).metrics["validation"]

    dense = Structure.dense(network.graph)
    state = found.weights(step.parents["weights"])
    module = found.context.module(network, structure, slice_state_dict(network.graph, state, dense, structure))
    data = found.context.dataset(step.args["data"], 1)
    batches = sample_batches(data, generator(1, "candidate"), total=500, batch=250)
    recompute_statistics(module, [images for images, _ in batches])
    assert data.validation_set is not None
    result = evaluate(module, *data.validation_set, preprocess=data.preprocess("cpu"))
    assert stored == pytest.approx(dict(result.figures))
    assert metrics["search_score"] == stored["accuracy"]
    assert metrics["search_score"] >= max(metrics["search_local"], metrics["search_global"])
    for name, (count, size) in metrics["search_removed"].items():
        group = network.graph.group(name)
        assert group.size - len(structure.kept.get(name, range(group.size))) == count <= size < group.size


@pytest.mark.parametrize(
    ("head", "prune", "check"),
    [
        ("", "weights searched to 80% by magnitude", ("sparsity", 0.8)),
        ("", "weights searched 30% x 2 by magnitude", ("sparsity", 0.51)),
        ("", "weights searched to 70% of params by magnitude", None),
        ("", "filters searched 5 by random", None),
        ("", "filters searched to 30% of params by taylor multiple=2", None),
        ("", "filters searched to 40% of flops by l1 order=highest evaluations=8", None),
        ("model resnet20 width=0.25\n", "layers searched to 30% of flops by l1", None),
    ],
)
def test_every_unit_and_amount(tmp_path: Path, head: str, prune: str, check: tuple[str, float] | None) -> None:
    full = (head + HEAD.partition("\n")[2]) if head else HEAD
    found = step_runner(tmp_path, f"prune {prune}; rewind lr", head=full)
    last = found.levels("ticket")[-1]
    metrics = found.metrics(last.structure)
    if check is not None:
        assert metrics[check[0]] == pytest.approx(check[1], abs=1e-3)
    amount = found.study.step(last.structure).args
    if "of" in amount:
        graph = found.context.dense_network(found.study.step(last.structure)).graph
        count = COUNTS[amount["of"]]
        gone = 1 - count(graph, found.structure(last.structure)) / count(graph, Structure.dense(graph))
        assert amount["to"] - 1e-9 <= gone < amount["to"] + 0.12
    if "evaluations" in amount:
        assert metrics["search_evaluations"] <= amount["evaluations"]


def test_without_validation_data_it_says_what_to_add(tmp_path: Path) -> None:
    found = step_runner(tmp_path, TWO, head=HEAD.replace(" validation=25%", ""))
    with pytest.raises(TickdslError, match="validation data, and synthetic has none"):
        found.run_step(prune_of(found, "first").key)


@pytest.mark.parametrize("prune", ["filters searched to 40% of flops by l1", "weights searched to 80% by magnitude"])
def test_an_evaluation_is_a_step_that_runs_by_itself(tmp_path: Path, prune: str) -> None:
    found = step_runner(tmp_path, f"prune {prune}; rewind lr", head=HEAD)
    found.run_step(prune_of(found, "ticket").key)
    stored = next(iter(found.context.store.results("candidate")))
    parts = stored.data["parts"]
    again = step_runner(tmp_path / "elsewhere", f"prune {prune}; rewind lr", head=HEAD)
    again.run_step(parts["parents"]["weights"])
    step = Step(parts["operation"], parts["args"], parts["parents"], parts["seed"])
    assert step.key == stored.key
    assert run_step(step, again.context, {}) == stored.metrics


def test_an_amount_that_is_gone_already_evaluates_nothing(tmp_path: Path) -> None:
    text = "prune filters 60% by l1; rewind lr; prune filters searched to 20% of flops by l1; rewind lr"
    found = step_runner(tmp_path, text, head=HEAD)
    with pytest.raises(TickdslError, match="would remove nothing"):
        found.run_step(found.levels("ticket")[-1].structure)
    assert not candidates(found.context)
