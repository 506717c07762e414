"""Weights of steps: exact rewinding, masks, removed filters, paired seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from step_runner import equal_states, step_runner
from torch import Tensor, nn

from tickdsl.engine.hooks import Hooks
from tickdsl.engine.steps import tested_images
from tickdsl.engine.steps.context import Context
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact_masks, slice_state_dict, zeroed_copy
from tickdsl.training.rng import generator

NETWORK = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=64\n"


@pytest.mark.parametrize("moment", ["1ep", "7it", "50%"])
def test_a_deposited_rewinding_point_is_a_training_that_stops_there(tmp_path: Path, moment: str) -> None:
    text = f"prune weights 20%; rewind weights to {moment}"
    one, other = step_runner(tmp_path / "a", text), step_runner(tmp_path / "b", text)
    point = next(key for key in one.study.graph if "prefix_of" in one.study.graph.nodes[key])
    leader = one.study.graph.nodes[point]["prefix_of"]
    one.run_step(leader, deposits=True)
    assert point in one.context.store
    assert equal_states(one.weights(point), other.weights(point))
    assert equal_states(one.weights(leader), other.weights(leader))  # storing it changes nothing


@contextmanager
def first_weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Tensor]]]:
    """The initial state of each training."""
    seen: list[dict[str, Tensor]] = []
    real = Context.module

    def spy(self: Context, found: object, structure: Structure, state: dict[str, Tensor]) -> nn.Module:
        module: nn.Module = real(self, found, structure, state)  # type: ignore[arg-type]
        seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return module

    with monkeypatch.context() as patched:
        patched.setattr(Context, "module", spy)
        yield seen


@pytest.mark.parametrize("unit", ["filters", "weights"])
def test_rewinding_to_init_starts_from_the_initial_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str
) -> None:
    found = step_runner(tmp_path, f"prune {unit} 30%; rewind weights to init")
    level = found.study.levels[0]
    found.run_step(level.structure)
    with first_weights(monkeypatch) as seen:
        found.run_step(level.ticket)
    graph = found.context.dense_network(found.study.step(level.ticket)).graph
    structure = found.context.structure(level.structure, graph)
    init = found.weights(found.step_labelled("init"))
    assert equal_states(seen[0], slice_state_dict(graph, init, Structure.dense(graph), structure))


def test_rewinding_the_rate_keeps_the_trained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = step_runner(tmp_path, "prune filters 30%; rewind lr")
    level = found.study.levels[0]
    found.run_step(level.structure)
    with first_weights(monkeypatch) as seen:
        found.run_step(level.ticket)
    graph = found.context.dense_network(found.study.step(level.ticket)).graph
    structure = found.context.structure(level.structure, graph)
    assert equal_states(
        seen[0], slice_state_dict(graph, found.weights(found.step_labelled("dense")), Structure.dense(graph), structure)
    )


def test_masked_weights_are_exactly_zero_after_training(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune weights 60% x 2; rewind weights to 1ep")
    for level in found.study.levels:
        state = found.weights(level.ticket)
        graph = found.context.dense_network(found.study.step(level.ticket)).graph
        masks = compact_masks(graph, found.context.structure(level.structure, graph))
        assert masks
        for name, kept in masks.items():
            assert not state[name][~kept].any()
            assert state[name][kept].any()


def test_pruned_filters_are_gone_and_the_rest_computes_the_same(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune filters 40%; rewind lr")
    level = found.study.levels[0]
    found.run_step(level.structure)
    network = found.context.dense_network(found.study.step(level.ticket))
    structure = found.context.structure(level.structure, network.graph)
    dense_state = found.weights(found.step_labelled("dense"))
    dense = found.context.module(network, Structure.dense(network.graph), dense_state).eval()
    whole = Structure.dense(network.graph)
    small = found.context.module(
        network, structure, slice_state_dict(network.graph, dense_state, whole, structure)
    ).eval()
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in dense.parameters())
    images = torch.rand(5, *network.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        silenced = zeroed_copy(dense, network.graph, structure).eval()
        torch.testing.assert_close(small(images), silenced(images), rtol=1e-5, atol=1e-5)
    trained = found.weights(level.ticket)
    assert {name: tensor.shape for name, tensor in trained.items()} == {
        name: tensor.shape for name, tensor in small.state_dict().items()
    }


def test_arms_of_one_seed_share_the_initial_weights_and_seeds_do_not(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "seeds 2\narm a { prune weights 20%; rewind weights }\n"
        "arm b { prune filters 40%; rewind weights }\ncompare a, b",
    )
    inits = {seed: found.step_labelled("init", seed) for seed in (1, 2)}
    assert {arm for arm, _ in found.study.graph.nodes[inits[1]]["uses"]} == {"a", "b"}
    assert not equal_states(found.weights(inits[1]), found.weights(inits[2]))
    for level in found.study.levels:
        assert found.study.step(level.ticket).parents["weights"] == inits[level.seed]
        assert found.study.step(level.ticket).seed == level.seed


def test_arms_of_one_seed_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = step_runner(
        tmp_path, "arm a { prune weights 20%; rewind lr }\narm b { prune filters 40%; rewind lr }\ncompare a, b"
    )
    orders: dict[str, list[Tensor]] = {}

    for level in found.study.levels:
        found.run_step(level.structure)
        drawn = orders.setdefault(level.arm, [])

        def spy(seed: int, *roles: str | int, drawn: list[Tensor] = drawn, **more: object) -> torch.Generator:
            made = generator(seed, *roles)
            if roles[0] == "order":
                drawn.append(torch.randperm(192, generator=generator(seed, *roles)))
            return made

        with monkeypatch.context() as patched:
            patched.setattr("tickdsl.training.data.batch_stream.generator", spy)
            found.run_step(level.ticket)
    assert len(orders["a"]) == 3
    assert all(torch.equal(one, other) for one, other in zip(orders["a"], orders["b"], strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_evaluation_has_the_precision_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    runner = step_runner(tmp_path, f"train 1ep precision={precision} batch=32\nprune weights 50%\n", head=NETWORK)
    used: list[torch.dtype | None] = []
    monkeypatch.setattr("tickdsl.training.devices.has_fast_bf16", lambda device: True)  # others emulate it
    evaluate = tested_images.evaluate

    def spy(*args: Any, **kwargs: Any) -> Any:
        used.append(kwargs["autocast"])
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(tested_images, "evaluate", spy)
    (key,) = (key for key in runner.study.graph if runner.study.step(key).operation == "evaluate")
    runner.run_step(key)
    assert used == [None if precision == "fp32" else torch.bfloat16]
    assert runner.study.step(key).args.get("precision", "fp32") == precision


@pytest.mark.parametrize("is_new", [True, False])
def test_a_training_says_whether_its_rewind_point_was_stored_before(tmp_path: Path, is_new: bool) -> None:
    runner = step_runner(tmp_path, "train 2ep batch=32\nprune weights 50%\nrewind weights to 1ep\n", head=NETWORK)
    points = runner.study.graph.nodes(data="prefixes")
    ((training, point),) = ((key, point) for key, found in points for point in (found or {}).values())
    if not is_new:
        runner.run_step(point)
    found: list[tuple[str, bool]] = []
    runner.context.hooks = Hooks(rewind_point_saved=lambda key, new: found.append((key, new)))
    runner.run_step(training, deposits=True)
    assert found == [(point, is_new)]
