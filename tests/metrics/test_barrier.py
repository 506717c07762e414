"""The error barrier between two training runs, and the steps that measure it and other metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.steps import surroundings
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.metrics.barrier import POINTS, measure_barrier
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study
from tickdsl.training.data.datasets import Dataset, load
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.loop import train
from tickdsl.training.models import create
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.rng import generator

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits")


def network() -> nn.Module:
    return create("lenet-300-100", classes=10, shape=(1, 8, 8), seed=1, options={})


@pytest.fixture(scope="module")
def trained(data: Dataset) -> dict[str, Tensor]:
    result = network()
    train(result, data, Recipe.from_dict({"length": "4ep", "lr": 0.1, "batch": 64}), seed=1)
    return {name: tensor.clone() for name, tensor in result.state_dict().items()}


def permuted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same function with other weights: the units of both hidden layers are permuted."""
    names = list(state)
    result = dict(state)
    for weight, bias, next_weight in (names[0:3], names[2:5]):
        order = torch.randperm(len(state[weight]), generator=torch.Generator().manual_seed(1))
        result[weight], result[bias] = result[weight][order], result[bias][order]
        result[next_weight] = result[next_weight][:, order]
    return result


def test_there_is_no_barrier_between_a_network_and_itself(data: Dataset, trained: dict[str, Tensor]) -> None:
    result = measure_barrier(network(), trained, trained, data, device=CPU)
    assert result["barrier"] == 0 and result["barrier.loss"] == pytest.approx(0, abs=1e-6)
    assert len({value for name, value in result.items() if name.startswith("barrier.error.")}) == 1


def test_there_is_a_barrier_to_a_permuted_network(data: Dataset, trained: dict[str, Tensor]) -> None:
    result = measure_barrier(network(), trained, permuted(trained), data, device=CPU)
    errors = [result[f"barrier.error.{number:02d}"] for number in range(1, POINTS + 1)]
    assert errors[0] == errors[-1] < 0.2
    assert result["barrier"] == pytest.approx(max(errors) - errors[0])
    assert result["barrier"] > 0.05 and result["barrier.loss"] > 0.1
    assert max(errors) in errors[5:25]


@pytest.fixture(scope="module")
def normed() -> tuple[nn.Module, list[dict[str, Tensor]], Dataset]:
    """Two networks with batch norm that were trained in different orders."""
    small = load("synthetic", options={"size": 8, "train": 256, "test": 100, "classes": 4})
    states = []
    for seed in (1, 2):
        model = create("small-cnn", classes=4, shape=small.shape, seed=1, options={"width": 0.5})
        train(model, small, Recipe.from_dict({"length": "2ep", "lr": 0.2, "batch": 64}), seed=seed)
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    return model, states, small


def test_statistics_along_the_line_are_those_of_the_networks_there(
    normed: tuple[nn.Module, list[dict[str, Tensor]], Dataset],
) -> None:
    model, (first, second), small = normed
    result = measure_barrier(model, first, second, small, device=CPU)
    position = torch.linspace(0, 1, POINTS, dtype=torch.float64)[11]
    halfway = {
        name: tensor + (second[name] - tensor) * position if tensor.is_floating_point() else tensor
        for name, tensor in first.items()
    }
    model.load_state_dict(halfway)
    images = [images for images, _ in sample_batches(small, generator(0, "barrier"), total=2000, batch=250)]
    torch.optim.swa_utils.update_bn(images, model)
    expected = evaluate(model, small.test_inputs, small.test_targets, preprocess=small.preprocess())
    assert result["barrier.error.12"] == pytest.approx(1 - expected.accuracy)


def test_interpolated_statistics_are_reported_too(
    normed: tuple[nn.Module, list[dict[str, Tensor]], Dataset],
) -> None:
    """Shifted activations halfway: the interpolated statistics fit neither end, the recomputed ones do."""
    model, (first, _), small = normed
    flipped = {name: -t if name.startswith("conv1") and name.endswith("weight") else t for name, t in first.items()}
    result = measure_barrier(model, first, flipped, small, device=CPU)
    assert result["barrier.interpolated.loss"] != pytest.approx(result["barrier.loss"], rel=1e-3)
    assert set(result) >= {"barrier", "barrier.loss", "barrier.interpolated", "barrier.interpolated.loss"}


def test_without_batch_norm_both_barriers_are_equal(data: Dataset, trained: dict[str, Tensor]) -> None:
    result = measure_barrier(network(), trained, permuted(trained), data, device=CPU)
    assert result["barrier.interpolated"] == result["barrier"]


def test_the_ends_of_the_line_are_the_two_networks(data: Dataset, trained: dict[str, Tensor]) -> None:
    second = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    forward = measure_barrier(network(), trained, second, data, device=CPU)
    backward = measure_barrier(network(), second, trained, data, device=CPU)
    assert forward["barrier.error.01"] == backward["barrier.error.30"]
    assert forward["barrier.error.30"] == backward["barrier.error.01"]
    assert forward["barrier"] >= 0


# -- the steps


def study(text: str, root: Path) -> Study:
    head = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=16\ntrain 4ep lr=0.1 batch=32\n"
    result = resolve(load_source(Source("test.plan", head + text)))
    assert result.plan is not None, result.diagnostics
    return prepare_study(result.plan, root)


def noise_twins(result: Study) -> list[Step]:
    return [result.step(key) for key in result.graph if result.step(key).args.get("noise")]


def measured_step(result: Study, metric: str, contestant: str) -> Step:
    (step,) = (
        result.step(m.step) for m in result.measurements if (m.report_metric, m.contestant) == (metric, contestant)
    )
    return step


def test_a_twin_differs_in_its_noise_alone(tmp_path: Path) -> None:
    result = study("prune filters 30%; rewind weights to 1ep\nreport barrier\n", tmp_path)
    step = measured_step(result, "barrier", "ticket")
    first, second = result.step(step.parents["weights"]), result.step(step.parents["other"])
    assert {**first.args, "noise": 1} == second.args
    assert first.parents == second.parents and first.seed == second.seed and first.args["start"] == "1ep"


def test_the_dense_network_branches_at_the_rewinding_point(tmp_path: Path) -> None:
    result = study("prune filters 30%; rewind weights to 25%\nreport barrier\n", tmp_path)
    step = measured_step(result, "barrier", "dense")
    first, second = result.step(step.parents["weights"]), result.step(step.parents["other"])
    branch = result.step(second.parents["weights"])
    assert (second.args["start"], branch.args["stop"]) == ("1ep", "1ep")
    # Both ends start there, with a fresh optimiser: the measured dense training has kept its momentum.
    assert first.parents == second.parents and {**first.args, "noise": 1} == second.args
    dense = next(result.step(m.step) for m in result.measurements if m.contestant == "dense")
    assert branch.parents["weights"] == dense.parents["weights"] and "start" not in dense.args


@pytest.mark.parametrize("tail", ["rewind lr", "rewind weights to init"])
def test_without_a_rewinding_point_the_dense_network_is_one_end(tail: str, tmp_path: Path) -> None:
    result = study(f"prune filters 30%; {tail}\nreport barrier\n", tmp_path)
    step = measured_step(result, "barrier", "dense")
    assert step.parents["weights"] in {m.step for m in result.measurements if m.contestant == "dense"}


def test_dense_networks_of_other_arms_share_a_twin_where_they_branch_alike(tmp_path: Path) -> None:
    text = (
        "arm a { prune filters 30%; rewind lr }\narm b { prune filters 30%; rewind weights to init }\nreport barrier\n"
    )
    result = study(text, tmp_path)
    assert len(noise_twins(result)) == 3
    without = study(text.replace("barrier", "accuracy"), tmp_path)
    assert result.naive_trainings == without.naive_trainings + 4


# -- other metrics


def test_latency_and_memory_depend_on_structure_and_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "seeds 3\nprune filters 30%; rewind lr\ncompare random-init\nreport latency, memory, robustness, barrier\n"
    here = study(text, tmp_path)
    dense = {m.step for m in here.measurements if m.contestant == "dense" and m.report_metric in ("latency", "memory")}
    assert len(dense) == 2
    for metric in ("latency", "memory"):
        at_one = {m.step for m in here.measurements if m.level == 1 and m.seed == 1 and m.report_metric == metric}
        assert len(at_one) == 1  # the ticket and its control have the same structure
    monkeypatch.setattr(surroundings, "host_name", lambda: "elsewhere")
    forward = study(text, tmp_path)
    moved = {here.step(key).operation for key in set(here.graph) - set(forward.graph)}
    assert moved == {"latency", "memory"}


def test_computed_metrics_need_no_steps(tmp_path: Path) -> None:
    text = "prune filters 30%; rewind lr\nreport energy, carbon, early-stop, train-time"
    plain = study(text, tmp_path)
    assert set(plain.graph) == set(study(f"{text} watts=3 intensity=7", tmp_path).graph)
    assert set(plain.graph) == set(study(text.partition("\n")[0], tmp_path).graph)


def test_another_batch_is_another_measurement(tmp_path: Path) -> None:
    text = "prune filters 30%; rewind lr\nreport latency, robustness batch={}"
    small, large = (study(text.format(batch), tmp_path) for batch in (1, 2))
    assert {small.step(key).operation for key in set(small.graph) - set(large.graph)} == {"latency"}
