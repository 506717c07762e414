"""Our optimisers take the same steps as torch's, with bit-identical results, and load less of torch."""

from __future__ import annotations

import copy

import attrs
import pytest
import torch
from torch import nn

from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step import optimisers
from tickdsl.training.step.optimisers import FusedSGD

RECIPE = Recipe(length="1ep", lr=0.1, momentum=0.9, decay=5e-4)


def _parameters(dtypes: tuple[torch.dtype, ...] = (torch.float32,) * 3) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(4, side, generator=draw).to(dtype)) for side, dtype in enumerate(dtypes, 2)]


def _plain(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        parameters, recipe.lr, recipe.momentum, weight_decay=recipe.decay, nesterov=recipe.nesterov, fused=True
    )


def _both(recipe: Recipe, ours: list[nn.Parameter], theirs: list[nn.Parameter], without: int | None = None) -> int:
    """Take steps of both with changing rates and momenta; return how many of `FusedSGD`'s bypassed torch's `step`."""
    mine, plain = optimisers.build(ours, recipe), _plain(theirs, recipe)
    assert isinstance(mine, FusedSGD)
    draw, bypassed = torch.Generator().manual_seed(1), 0
    for step in range(5):
        gradients = [torch.randn(p.shape, generator=draw).to(p.dtype) for p in ours]
        for optimizer, parameters in ((mine, ours), (plain, theirs)):
            for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                parameter.grad = None if step == without and index == 1 else gradient.clone()
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            if recipe.momentum:
                optimizer.param_groups[0]["momentum"] = 0.9 - 0.1 * step
        with torch.profiler.profile() as profile:
            optimisers.update(mine)
        bypassed += not any(event.key.startswith("Optimizer.step") for event in profile.key_averages())
        plain.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), step
    for one, other in zip(mine.state.values(), plain.state.values(), strict=True):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    return bypassed


@pytest.mark.parametrize("recipe", [
    RECIPE, attrs.evolve(RECIPE, nesterov=True), attrs.evolve(RECIPE, decay=0.0),
], ids=["momentum", "nesterov", "no decay"])  # fmt: skip
def test_every_step_is_one_operation(recipe: Recipe) -> None:
    assert _both(recipe, _parameters(), _parameters()) == 5


def test_without_momentum_the_first_step_is_one_operation_too() -> None:
    recipe = attrs.evolve(RECIPE, momentum=0.0)
    ours, theirs = _parameters(), _parameters()
    mine, plain = optimisers.build(ours, recipe), _plain(theirs, recipe)
    for parameter in (*ours, *theirs):
        parameter.grad = torch.ones_like(parameter)
    optimisers.update(mine)
    plain.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not mine.state or all(not state for state in mine.state.values())


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    assert _both(RECIPE, _parameters(), _parameters(), without=2) == 4


def test_parameters_of_several_dtypes_use_torchs_step() -> None:
    mixed = (torch.float32, torch.float64, torch.float32)
    assert _both(RECIPE, _parameters(mixed), _parameters(mixed)) == 0


@pytest.mark.parametrize(("name", "plain_class"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("dtypes", [(torch.float32,) * 3, (torch.float32, torch.float64, torch.float32)])
def test_adam_takes_the_steps_of_torch(
    name: str, plain_class: type[torch.optim.Adam], dtypes: tuple[torch.dtype, ...]
) -> None:
    recipe = Recipe(length="1ep", optimizer=name, lr=0.01, decay=1e-2, beta1=0.8, beta2=0.99)
    ours, theirs = _parameters(dtypes), _parameters(dtypes)
    mine = optimisers.build(ours, recipe)
    plain = plain_class(theirs, 0.01, (0.8, 0.99), weight_decay=1e-2, fused=True)
    draw = torch.Generator().manual_seed(1)
    for step in range(5):
        gradients = [torch.randn(p.shape, generator=draw).to(p.dtype) for p in ours]
        for optimizer, parameters in ((mine, ours), (plain, theirs)):
            for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                parameter.grad = None if (step, index) == (2, 1) else gradient.clone()
            optimisers.set_rate(optimizer, 0.01 / (step + 1))
            optimisers.set_momentum(optimizer, 0.8 - 0.1 * step)
        optimisers.update(mine)
        plain.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), step
        if step == 3:  # as a checkpoint is resumed
            resumed = optimisers.build(ours, recipe)
            resumed.load_state_dict(copy.deepcopy(mine.state_dict()))
            mine = resumed


def test_states_are_interchangeable_with_torchs() -> None:
    ours, theirs = _parameters(), _parameters()
    _both(RECIPE, ours, theirs)
    mine, plain = optimisers.build(ours, RECIPE), _plain(theirs, RECIPE)
    for parameter in (*ours, *theirs):
        parameter.grad = torch.ones_like(parameter)
    optimisers.update(mine)
    plain.load_state_dict(copy.deepcopy(mine.state_dict()))
    with torch.no_grad():
        for one, other in zip(ours, theirs, strict=True):
            other.copy_(one)
    optimisers.update(mine)
    plain.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
