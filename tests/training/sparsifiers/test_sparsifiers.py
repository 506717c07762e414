"""Masks that change while a network trains: counts, schedules, gradients and resuming, against the papers' formulas."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.pruning.selection import lowest_of_pools, lowest_positions
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.sparsifiers.evolving import (
    Evolution,
    exchange,
    exchange_at_random,
    exchange_with_constant_fan_in,
)
from tickdsl.training.sparsifiers.gradual import GradualPruning
from tickdsl.training.sparsifiers.penalty import RisingPenalty
from tickdsl.training.sparsifiers.protocol import SparseNetwork, Sparsifier
from tickdsl.training.sparsifiers.selection import lowest, lowest_of_all
from tickdsl.training.sparsifiers.zeroing import SoftPruning
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimisers import build

RECIPE = Recipe(length="3ep", lr=0.05, batch=32, augment=("crop", "flip"))
STEPS = 12
LAYERS = ("conv2.weight", "fc.weight")


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 128, "test": 40, "classes": 4})


def _model() -> nn.Module:
    return models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)


def _masks(model: nn.Module, density: float = 0.3) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(p.shape, generator=stream) < density for name, p in model.named_parameters() if name in LAYERS
    }


def _kept(masks: dict[str, Tensor] | Any) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


# -- selection


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_lowest_scores_are_those_that_a_prune_takes(data: st.DataObject) -> None:
    """Ties included: the scores are small whole numbers."""
    pools = data.draw(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=1, max_size=4))
    scores = [torch.tensor(pool, dtype=torch.float32) for pool in pools]
    count = data.draw(st.integers(0, sum(map(len, pools))))
    expected = lowest_of_pools(scores, count)
    actual = [np.flatnonzero(chosen.numpy()) for chosen in lowest_of_all(scores, count)]
    assert all(np.array_equal(e, a) for e, a in zip(expected, actual, strict=True))
    alone = data.draw(st.integers(0, len(pools[0])))
    assert np.array_equal(np.flatnonzero(lowest(scores[0], alone).numpy()), lowest_positions(scores[0], alone))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20_000), st.integers(1, 5_000), st.booleans())
def test_the_lowest_of_many_scores_need_no_luck_with_the_sample(
    seed: int, count: int, different: int, in_order: bool
) -> None:
    """Many scores are narrowed down by a sample, which says nothing of them if they tie, or are in order."""
    scores = torch.from_numpy(np.random.default_rng(seed).integers(0, different, 20_000).astype(np.float32))
    scores = scores.sort().values if in_order else scores
    assert np.array_equal(np.flatnonzero(lowest(scores, count).numpy()), lowest_positions(scores, count))


def test_a_sample_that_misses_the_lowest_scores_is_not_believed() -> None:
    """The sample has every ninth score: here, none of the lowest."""
    scores = torch.arange(20_000.0)
    scores[::9] += 1e6
    assert np.array_equal(np.flatnonzero(lowest(scores, 4_000).numpy()), lowest_positions(scores, 4_000))


# -- SET, RigL, SNFS


def _reference_exchange(weight: np.ndarray, kept: np.ndarray, growth: np.ndarray, count: int) -> np.ndarray:
    """RigL's update of a layer, one weight at a time: the smallest leave, the highest of all others enter."""
    active = sorted(np.flatnonzero(kept.ravel()), key=lambda i: abs(weight.ravel()[i]))
    stays = set(active[count:])
    others = sorted((i for i in range(kept.size) if i not in stays), key=lambda i: -growth.ravel()[i])
    after = np.zeros(kept.size, dtype=bool)
    after[[*stays, *others[:count]]] = True
    return after.reshape(kept.shape)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 9), st.floats(0, 1))
def test_an_exchange_is_that_of_rigl(seed: int, rows: int, columns: int, share: float) -> None:
    stream = np.random.default_rng(seed)
    weight, growth = stream.normal(size=(rows, columns)), stream.random((rows, columns))
    kept = stream.random((rows, columns)) < 0.5
    count = int(share * kept.sum())
    tensors = [torch.tensor(array) for array in (weight * kept, kept, growth)]
    after = exchange(tensors[0], tensors[1], tensors[2], count)
    assert np.array_equal(after.numpy(), _reference_exchange(weight, kept, growth, count))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 9), st.floats(0, 1))
def test_random_weights_enter_for_the_smallest(seed: int, rows: int, columns: int, share: float) -> None:
    stream = np.random.default_rng(seed)
    kept = torch.tensor(stream.random((rows, columns)) < 0.5)
    weight = torch.tensor(stream.normal(size=(rows, columns))) * kept
    count = int(share * int(kept.sum()))
    after = exchange_at_random(weight, kept, count, torch.Generator().manual_seed(seed))
    stays = sorted(kept.flatten().nonzero().flatten().tolist(), key=lambda i: abs(float(weight.flatten()[i])))[count:]
    assert int(after.sum()) == int(kept.sum())
    assert after.flatten()[stays].all()


def test_every_weight_is_as_likely_to_enter() -> None:
    """12 of 40 places are taken by weights that stay; 9 of the 28 others are drawn 4,000 times."""
    weight = torch.zeros(5, 8)
    weight.flatten()[torch.arange(21) * 37 % 40] = torch.arange(1.0, 22)
    entered = torch.zeros(5, 8)
    stream = torch.Generator().manual_seed(1)
    for _ in range(4_000):
        entered += exchange_at_random(weight, weight > 0, 9, stream)
    stays = weight > 9
    assert (entered[stays] == 4_000).all()
    expected = 4_000 * 9 / 28
    assert float((entered[~stays] - expected).abs().max()) < 4 * (expected * 19 / 28) ** 0.5


@pytest.mark.parametrize("pruned", [0, 1, 40])
def test_random_weights_enter_an_almost_dense_layer(pruned: int) -> None:
    """Where hardly a place is free, drawing until one is found would take millions of draws."""
    weight = torch.arange(1.0, 100_001)
    weight[:pruned] = 0
    drawn = mock.Mock(wraps=torch.randint)
    with mock.patch("torch.randint", drawn):
        after = exchange_at_random(weight, weight > 0, 3, torch.Generator().manual_seed(1))
    assert int(after.sum()) == 100_000 - pruned and after[pruned + 3 :].all()
    assert drawn.call_count == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 9), st.floats(0, 1))
def test_constant_fan_in_keeps_the_number_of_weights_and_levels_the_rows(
    seed: int, rows: int, columns: int, share: float
) -> None:
    stream = np.random.default_rng(seed)
    weight = torch.tensor(stream.normal(size=(rows, columns)))
    growth, kept = torch.tensor(stream.random((rows, columns))), torch.tensor(stream.random((rows, columns)) < 0.5)
    count = int(share * int(kept.sum()))
    after = exchange_with_constant_fan_in(weight * kept, kept, growth.clone(), count)
    fan_in = after.sum(1)
    assert int(after.sum()) == int(kept.sum())
    assert int(fan_in.max() - fan_in.min()) <= 1
    for row in range(rows):
        # Of the weights that were kept, a larger one never makes room for a smaller one.
        staying = (weight[row].abs() * (after[row] & kept[row]))[after[row] & kept[row]]
        entered = growth[row][after[row] & ~kept[row]]
        passed_over = growth[row][~after[row] & ~kept[row]]
        assert not len(entered) or not len(passed_over) or entered.min() >= passed_over.max()
        assert bool((staying > 0).all())


@pytest.mark.parametrize("grow", ["gradient", "random", "momentum"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("fan_in", ["free", "constant"])
def test_every_layer_keeps_its_number_of_weights(tiny: Dataset, grow: Any, optimizer: str, fan_in: Any) -> None:
    """The share falls along the cosine of Evci et al. 2020, and as many weights enter as leave."""
    model, recipe = _model(), Recipe(length="3ep", lr=0.01, batch=32, optimizer=optimizer)
    masks = _masks(model)
    evolution = Evolution(share=0.3, every=2, until=9, grow=grow, fan_in=fan_in)
    history = train(model, tiny, recipe, seed=1, masks=masks, sparsifier=evolution)
    assert history.masks is not None
    assert _kept(history.masks) == _kept(masks)
    assert [step for step, _, _ in history.changes] == [2, 4, 6, 8]
    assert all(left == entered for _, left, entered in history.changes)
    most = [
        sum(int(0.3 / 2 * (1 + math.cos(math.pi * step / 9)) * kept) for kept in _kept(masks).values())
        for step in (2, 4, 6, 8)
    ]
    if fan_in == "free":  # a weight that would leave and enter at once stays, so fewer may be exchanged
        assert all(left <= limit for (_, left, _), limit in zip(history.changes, most, strict=True))
    assert any(not torch.equal(history.masks[name], masks[name]) for name in masks)
    for name, mask in history.masks.items():
        assert not dict(model.named_parameters())[name][~mask].any()


def test_set_draws_by_the_seed(tiny: Dataset) -> None:
    """Equal seeds exchange the same weights, other seeds others."""
    outcomes = []
    for seed in (1, 1, 2):
        model = _model()
        history = train(
            model, tiny, RECIPE, seed=seed, stop=4, masks=_masks(model), sparsifier=Evolution(0.5, 2, 100, "random")
        )
        outcomes.append(history.masks or {})
    assert all(torch.equal(outcomes[0][name], outcomes[1][name]) for name in LAYERS)
    assert any(not torch.equal(outcomes[0][name], outcomes[2][name]) for name in LAYERS)


def test_rigl_takes_the_gradients_of_pruned_weights_only_at_a_change(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What enters has the largest gradients of the batch of that step, which updates no weight."""
    from tickdsl.training.step.optimiser_step import OptimiserStep

    asked: list[dict[str, Tensor]] = []
    original = OptimiserStep.gradients

    def gradients(self: OptimiserStep, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        found = original(self, *args, **kwargs)
        asked.append(found)
        return found

    monkeypatch.setattr(OptimiserStep, "gradients", gradients)
    before, after, masks = _model(), _model(), _masks(_model())
    train(before, tiny, RECIPE, seed=1, stop=5, masks=masks)
    assert asked == []
    history = train(after, tiny, RECIPE, seed=1, stop=6, masks=masks, sparsifier=Evolution(0.3, 5, 11))
    assert len(asked) == 1 and history.masks is not None
    weights = dict(before.named_parameters())
    for name, mask in masks.items():
        count = int(0.15 * (1 + math.cos(math.pi * 5 / 11)) * int(mask.sum()))
        expected = _reference_exchange(
            weights[name].detach().numpy(), mask.numpy(), asked[0][name].abs().numpy(), count
        )
        assert np.array_equal(history.masks[name].numpy(), expected)
        # The step of the change updates nothing: weights that stayed are those of five steps, new ones are 0.
        now = dict(after.named_parameters())[name]
        assert torch.equal(now[mask & history.masks[name]], weights[name][mask & history.masks[name]])
        assert not now[~mask].any()


def test_state_of_weights_that_enter_is_reset() -> None:
    layer = nn.Linear(4, 2)
    for optimizer in ("sgd", "adam"):
        optimiser = build(list(layer.parameters()), Recipe(length="1ep", lr=0.1, optimizer=optimizer))
        layer(torch.ones(3, 4)).square().sum().backward()
        optimiser.step()
        network = SparseNetwork(layer, {"weight": layer.weight}, Masks(layer, {}), optimiser, 0)
        entering = torch.tensor([[True, False, False, True], [False] * 4])
        network.reset_state("weight", entering)
        states = [value for value in optimiser.state[layer.weight].values() if value.shape == layer.weight.shape]
        assert states
        for state in states:
            assert not state[entering].any()
            assert bool((state[~entering] != 0).all())


def test_snfs_lets_the_largest_momentum_in(tiny: Dataset) -> None:
    model, masks = _model(), _masks(_model())
    found: dict[str, Tensor] = {}

    class Watching(Evolution):
        def start(self, network: SparseNetwork) -> Any:
            active = super().start(network)
            change = active.change

            def watched(step: int, gradients: Any = None) -> None:
                for name in LAYERS:
                    momentum = network.optimizer.state[network.parameters[name]]["momentum_buffer"]
                    found[name] = momentum.clone()
                    found[f"{name} kept"] = network.parameters[name].detach().clone()
                change(step, gradients)

            active.change = watched
            return active

    history = train(model, tiny, RECIPE, seed=1, stop=5, masks=masks, sparsifier=Watching(0.3, 4, 100, "momentum"))
    assert history.masks is not None
    for name, mask in masks.items():
        count = int(0.15 * (1 + math.cos(math.pi * 4 / 100)) * int(mask.sum()))
        expected = _reference_exchange(found[f"{name} kept"].numpy(), mask.numpy(), found[name].abs().numpy(), count)
        assert np.array_equal(history.masks[name].numpy(), expected)


# -- gradual pruning


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("by", ["magnitude", "random", "movement", "delta"])
def test_gradual_pruning_leaves_what_its_schedule_says(tiny: Dataset, together: bool, by: str) -> None:
    model = _model()
    sizes = [dict(model.named_parameters())[name].numel() for name in LAYERS]
    shares = {3: 0.8, 6: 0.5, 12: 0.2}
    left = {
        step: [round(share * sum(sizes))] if together else [round(share * size) for size in sizes]
        for step, share in shares.items()
    }
    origin = {name: p.detach().clone() for name, p in model.named_parameters()}
    pruning = GradualPruning(LAYERS, left, by, origin)
    history = train(model, tiny, RECIPE, seed=1, sparsifier=pruning)
    assert history.masks is not None
    kept = _kept(history.masks)
    assert ([sum(kept.values())] if together else [kept[name] for name in LAYERS]) == left[12]
    assert [step for step, _, _ in history.changes] == [3, 6, 12]
    assert sum(removed for _, removed, _ in history.changes) == sum(sizes) - sum(left[12])


def test_one_gradual_step_removes_the_smallest_weights_of_the_dense_training(tiny: Dataset) -> None:
    """And before its first step it trains bit for bit like a training without it."""
    dense, pruned = _model(), _model()
    train(dense, tiny, RECIPE, seed=1, stop=4)
    history = train(pruned, tiny, RECIPE, seed=1, stop=4, sparsifier=GradualPruning(LAYERS, {4: [500]}))
    weights = dict(dense.named_parameters())
    magnitudes = torch.cat([weights[name].detach().abs().flatten() for name in LAYERS])
    threshold = magnitudes.sort(descending=True).values[500]
    assert history.masks is not None
    for name in LAYERS:
        assert torch.equal(history.masks[name], weights[name].abs() > threshold)
        assert torch.equal(dict(pruned.named_parameters())[name], weights[name] * history.masks[name])


def test_movement_is_the_sum_of_weight_times_gradient() -> None:
    """Sanh, Wolf & Rush 2020, equation 5, on a regression whose gradients are known in closed form."""
    from tickdsl.training.step.gradient_terms import MovementScores

    layer = nn.Linear(3, 1, bias=False)
    scores = MovementScores([layer.weight])
    expected = np.zeros((1, 3))
    for x in (torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[0.5, -1.0, 3.0]])):
        weight = layer.weight.detach().numpy().copy()
        layer.weight.grad = None
        layer(x).square().sum().backward()
        scores.apply()
        expected -= weight * (2 * (x.numpy() @ weight.T) * x.numpy())
        with torch.no_grad():
            layer.weight -= 0.1 * layer.weight.grad
    assert np.allclose(scores.scores[0].numpy(), expected, atol=1e-5)


def test_a_criterion_of_the_caller_ranks(tiny: Dataset) -> None:
    model = _model()

    def score(state: Any) -> dict[str, Tensor]:
        weight = state["fc.weight"]
        return {"fc.weight": torch.arange(float(weight.numel())).view(weight.shape)}

    pruning = GradualPruning(("fc.weight",), {2: [3]}, "first come", score=score)
    history = train(model, tiny, RECIPE, seed=1, stop=3, sparsifier=pruning)
    assert history.masks is not None
    assert history.masks["fc.weight"].flatten().nonzero().flatten().tolist() == [
        model.fc.weight.numel() - n
        for n in (3, 2, 1)  # type: ignore[union-attr,operator]
    ]


# -- penalties


def test_a_penalty_grows_by_steps_and_shrinks_what_was_chosen(tiny: Dataset) -> None:
    """The factor is that of the authors' code of RST: from 0, + step after every `every` steps, up to `to`."""
    model, chosen = _model(), _masks(_model(), 0.5)
    penalty = RisingPenalty(chosen, step=0.5, every=3, to=1.6)
    assert [penalty.factor_at(step) for step in range(14)] == [
        0, 0, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.6, 1.6, 1.6
    ]  # fmt: skip
    history = train(model, tiny, Recipe(length="20ep", lr=0.05, batch=32), seed=1, sparsifier=penalty)
    assert history.masks is None
    for name, mask in chosen.items():
        weight = dict(model.named_parameters())[name]
        assert weight[mask].abs().mean() < 0.02 * weight[~mask].abs().mean()


@pytest.mark.parametrize("power", [1, 2, 3])
def test_a_power_of_a_penalty_is_at_its_end_at_the_same_time(power: int) -> None:
    penalty = RisingPenalty({}, step=0.1, every=2, to=0.5, power=power)
    factors = [penalty.factor_at(step) for step in range(0, 12, 2)]
    assert factors == pytest.approx([0.5 * (n / 5) ** power for n in range(6)])
    assert penalty.factor_at(9) == penalty.factor_at(500) == 0.5 and penalty.factor_at(0) == 0.0
    assert (penalty.identity() == RisingPenalty({}, 0.1, 2, 0.5).identity()) == (power == 1)


def test_the_penalty_is_added_to_the_gradient() -> None:
    layer = nn.Linear(3, 2, bias=False)
    chosen = torch.tensor([[True, False, True], [False, True, False]])
    optimiser = build([layer.weight], Recipe(length="1ep", lr=0.1))
    network = SparseNetwork(layer, {"weight": layer.weight}, Masks(layer, {}), optimiser, 0)
    active = RisingPenalty({"weight": chosen}, 0.25, 1, 1.0).start(network)
    layer.weight.grad = torch.ones(2, 3)
    active.before_step(2)
    active.gradient_terms[0].apply()
    assert torch.allclose(layer.weight.grad, 1 + 0.75 * layer.weight.detach() * chosen)


def test_the_average_of_a_penalised_training_is_what_is_kept(tiny: Dataset) -> None:
    """With `ema=`, the result is the moving average of the weights that the same training has without it."""
    chosen, weights = _masks(_model(), 0.5), []
    recipe = Recipe(length="2ep", lr=0.05, batch=32)
    model = _model()

    def before_step() -> None:
        weights.append({name: p.detach().clone() for name, p in model.named_parameters()})

    train(model, tiny, recipe, seed=1, sparsifier=RisingPenalty(chosen, 0.1, 2, 0.4), before_step=before_step)
    weights.append({name: p.detach().clone() for name, p in model.named_parameters()})
    averaged = _model()
    train(averaged, tiny, attrs.evolve(recipe, ema=0.5), seed=1, sparsifier=RisingPenalty(chosen, 0.1, 2, 0.4))
    for name, parameter in averaged.named_parameters():
        expected = weights[0][name].double()
        for n, each in enumerate((state[name] for state in weights[1:]), 1):
            decay = min(0.5, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * each
        assert torch.allclose(parameter.double(), expected, rtol=1e-4, atol=1e-6)


def test_epochs_report_the_factor_of_the_penalty(tiny: Dataset) -> None:
    """128 images in batches of 32 are 4 steps an epoch: the last step of epoch e is step 4e - 1."""
    penalty = RisingPenalty(_masks(_model(), 0.5), step=0.25, every=3, to=0.6)
    history = train(_model(), tiny, Recipe(length="3ep", lr=0.05, batch=32), seed=1, sparsifier=penalty)
    assert [epoch.penalty for epoch in history.epochs] == [0.25, 0.5, 0.6]
    plain = train(_model(), tiny, Recipe(length="1ep", lr=0.05, batch=32), seed=1)
    assert plain.epochs[0].penalty is None


def test_bn_l1_adds_the_sign_of_the_scales(tiny: Dataset) -> None:
    """Network slimming, as in the authors' code: gradient + strength x sign(scale); nothing else changes."""
    from tickdsl.training.step.gradient_terms import BatchNormL1

    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    model(torch.randn(2, 1, 6, 6)).sum().backward()
    scale = model[1].weight
    with torch.no_grad():
        scale.copy_(torch.tensor([0.5, 0.0, -2.0]))
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    BatchNormL1(model, 0.01).apply()
    expected = before["1.weight"] + 0.01 * torch.tensor([1.0, 0.0, -1.0])
    assert torch.equal(scale.grad, expected)
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters() if name != "1.weight")
    plain, sparse = (
        models.create("resnet20", classes=4, shape=(1, 8, 8), seed=0, options={"width": 0.25}) for _ in "ab"
    )
    train(plain, tiny, Recipe(length="2ep", lr=0.05, batch=32), seed=1)
    train(sparse, tiny, Recipe(length="2ep", lr=0.05, batch=32, bn_l1=0.05), seed=1)
    scales = [
        sum(float(m.weight.detach().abs().sum()) for m in net.modules() if isinstance(m, nn.BatchNorm2d))
        for net in (plain, sparse)
    ]
    assert scales[1] < scales[0]


def test_soft_pruning_sets_to_zero_and_lets_learn(tiny: Dataset) -> None:
    model, steps = _model(), []
    first_filters = torch.zeros_like(model.conv2.weight, dtype=torch.bool)  # type: ignore[union-attr,arg-type]
    first_filters[:2] = True

    def choose(state: Any) -> dict[str, Tensor]:
        steps.append(float(state["conv2.weight"][:2].abs().sum()))
        return {"conv2.weight": first_filters}

    history = train(model, tiny, RECIPE, seed=1, sparsifier=SoftPruning(choose, every=5, stop=12))
    assert [step for step, _, _ in history.changes] == [5, 10, 12]
    assert all(size > 0 for size in steps)  # zeroed weights learn again
    assert not model.conv2.weight[:2].any() and history.masks is None  # type: ignore[union-attr,index]


# -- resuming, stacks


class _Stop(Exception):
    pass


def _sparsifiers() -> dict[str, Sparsifier]:
    chosen = _masks(_model(), 0.5)
    left = {step: [5000 - 300 * step] for step in range(1, 13, 2)}
    return {
        "rigl": Evolution(0.4, 2, 11),
        "set": Evolution(0.4, 3, 11, "random"),
        "snfs": Evolution(0.4, 2, 11, "momentum", "constant"),
        "gradual": GradualPruning(LAYERS, left),
        "movement": GradualPruning(LAYERS, left, "movement"),
        "random": GradualPruning(LAYERS, left, "random"),
        "penalty": RisingPenalty(chosen, 0.1, 2, 0.4),
        "penalty and average": RisingPenalty(chosen, 0.1, 2, 0.4),
        "soft": SoftPruning(lambda state: {n: state[n].abs() < 0.02 for n in LAYERS}, 3, 12),
    }


@pytest.mark.parametrize("kind", list(_sparsifiers()))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interruptions=st.lists(st.integers(0, STEPS - 1), min_size=1, max_size=3))
def test_a_resumed_training_ends_with_the_same_bits(
    tiny: Dataset, tmp_path_factory: pytest.TempPathFactory, kind: str, optimizer: str, interruptions: list[int]
) -> None:
    recipe = Recipe(length="3ep", lr=0.02, batch=32, optimizer=optimizer, augment=("crop", "flip"))
    if kind == "penalty and average":
        recipe = attrs.evolve(recipe, ema=0.9)

    def run(model: nn.Module, folder: Path | None, stop_at: int | None = None) -> TrainingHistory:
        steps = 0

        def before_step() -> None:
            nonlocal steps
            if steps == stop_at:
                raise _Stop
            steps += 1

        sparsifier = _sparsifiers()[kind]
        masks = _masks(model) if isinstance(sparsifier, Evolution) else {}
        checkpoint = Checkpointer(folder, every_seconds=0) if folder else None
        return train(
            model, tiny, recipe, seed=7, masks=masks, sparsifier=sparsifier, checkpoint=checkpoint,
            before_step=before_step,
        )  # fmt: skip

    whole = _model()
    expected = run(whole, None)
    folder = tmp_path_factory.mktemp("checkpoint")
    for stop_at in interruptions:
        try:
            run(_model(), folder, stop_at)
        except _Stop:
            continue
    resumed = _model()
    history = run(resumed, folder)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert history.changes == expected.changes
    assert (history.masks is None) == (expected.masks is None)
    if history.masks is not None and expected.masks is not None:
        assert all(torch.equal(history.masks[name], mask) for name, mask in expected.masks.items())


def test_checkpoints_belong_to_one_schedule(tiny: Dataset, tmp_path: Path) -> None:
    model = _model()

    def interrupt() -> None:
        checkpoint.save_now()
        raise _Stop

    checkpoint = Checkpointer(tmp_path, every_seconds=0)
    with pytest.raises(_Stop):
        train(
            model, tiny, RECIPE, seed=1, masks=_masks(model), checkpoint=checkpoint, before_step=interrupt,
            sparsifier=Evolution(0.3, 2, 10),
        )  # fmt: skip
    warnings: list[str] = []
    other = _model()
    train(
        other, tiny, RECIPE, seed=1, masks=_masks(other), stop=1, sparsifier=Evolution(0.3, 3, 10),
        checkpoint=Checkpointer(tmp_path, warn=warnings.append),
    )  # fmt: skip
    assert "belongs to another training" in warnings[0]


@pytest.mark.parametrize(
    ("change", "reason"), [({"sparsifier": Evolution(0.3, 2, 10)}, "their masks or weights change"),
                           ({"recipe": Recipe(length="1ep", batch=32, bn_l1=1e-4)}, "scales of batch norm")]
)  # fmt: skip
def test_stacks_refuse_them(tiny: Dataset, change: dict[str, Any], reason: str) -> None:
    jobs = [
        TrainingJob(**{"model": _model(), "data": tiny, "recipe": RECIPE, "seed": seed, **change}) for seed in (1, 2)
    ]
    assert reason in str(stacking_obstacle(jobs, InMemoryChoices(), torch.device("cpu")))
