"""Recipes: exact learning rates, round trips, errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.moments import Moment
from tickdsl.training.recipes.recipe import Recipe, steps_per_epoch


@given(
    total=st.integers(4, 400),
    pct_start=st.floats(0.05, 0.9),
    div=st.floats(1, 200),
    final_div=st.floats(1, 1e5),
    max_lr=st.floats(1e-4, 2),
)
def test_one_cycle_is_that_of_torch(total: int, pct_start: float, div: float, final_div: float, max_lr: float) -> None:
    if pct_start * total <= 1:
        return  # torch divides by zero or goes backwards there
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr, total_steps=total, pct_start=pct_start, div_factor=div, final_div_factor=final_div
    )
    rates, momenta = [], []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if len(rates) < total:
            schedule.step()
    recipe = Recipe(
        length=f"{total}it", schedule="one-cycle", max_lr=max_lr, pct_start=pct_start, div=div, final_div=final_div
    )
    np.testing.assert_allclose(recipe.learning_rates(10), rates, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(recipe.momenta(10), momenta, rtol=1e-12)


def test_a_linear_warm_up_starts_at_0() -> None:
    """As in the code of open_lth and COLT: the rate of step i of W is multiplied by i / W."""
    recipe = Recipe(length="50ep", lr=0.1, schedule="milestones", milestones=("3ep",), gamma=0.2, warmup="1ep")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: min(1.0, it / 8) * 0.2 ** (it >= 24))
    rates = []
    for _ in range(32):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        factor.step()
    np.testing.assert_allclose(recipe.learning_rates(8)[:32], rates, rtol=1e-12, atol=1e-15)


def test_milestones_are_those_of_torch() -> None:
    recipe = Recipe(length="6ep", lr=0.1, schedule="milestones", milestones=("2ep", "4ep"), gamma=0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [14, 28], gamma=0.2)
    rates = []
    for _ in range(42):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(recipe.learning_rates(7), rates, rtol=1e-12)


@given(
    schedule=st.sampled_from(["constant", "milestones", "cosine", "one-cycle", "linear"]),
    epochs=st.integers(2, 30),
    per_epoch=st.integers(1, 50),
    warmup=st.integers(0, 40),
)
def test_there_is_one_rate_a_step_and_none_above_the_peak(
    schedule: str, epochs: int, per_epoch: int, warmup: int
) -> None:
    recipe = Recipe(length=f"{epochs}ep", lr=0.3, schedule=schedule, milestones=("50%",), warmup=f"{warmup}it")
    rates = recipe.learning_rates(per_epoch)
    assert len(rates) == epochs * per_epoch == len(recipe.momenta(per_epoch))
    assert (rates[1:] > 0).all() and rates[0] >= 0
    assert (rates <= 0.3 + 1e-12).all()


@given(samples=st.integers(1, 2000), batch=st.integers(1, 300))
def test_batches_cover_all_images_and_none_has_a_single_image(samples: int, batch: int) -> None:
    steps = steps_per_epoch(samples, batch)
    sizes = [batch] * (steps - 1) + [samples - batch * (steps - 1)]
    assert sum(sizes) == samples
    assert 1 <= sizes[-1] <= batch + 1
    if samples > 1 and batch > 1:
        assert min(sizes) > 1


_moments = st.builds(Moment, st.integers(1, 50), st.sampled_from(["ep", "it"]))


@given(
    length=_moments,
    optimizer=st.sampled_from(["sgd", "adam", "adamw"]),
    lr=st.floats(1e-5, 10),
    batch=st.integers(1, 512),
    warmup=_moments,
    augment=st.lists(st.sampled_from(["crop", "flip", "rotation"]), unique=True),
)
def test_dictionaries_round_trip(length, optimizer, lr, batch, warmup, augment) -> None:  # type: ignore[no-untyped-def]
    recipe = Recipe(length=length, optimizer=optimizer, lr=lr, batch=batch, warmup=warmup, augment=tuple(augment))
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_only_fields_that_differ_from_their_defaults_are_written() -> None:
    assert Recipe(length="3ep", lr=0.1).to_dict() == {"length": "3ep"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": 0}, "lr=0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"batch": 0}, "batch=0"),
        ({"batch": 1.5}, "batch=1.5"),
        ({"momentum": 1.0}, "momentum=1"),
        ({"length": "0ep"}, "0ep"),
        ({"length": "50%"}, "50%"),
        ({"schedule": "milestones"}, "needs milestones"),
        ({"schedule": "milestones", "milestones": ["3ep", "2ep"]}, "must increase"),
        ({"optimizer": "sgdd"}, "sgdd"),
        ({"augment": ["crop", "mixup"]}, "mixup"),
        ({"nesterov": True, "momentum": 0}, "nesterov"),
        ({"pct_start": 1.0}, "pct_start"),
        ({"momentun": 0.9}, "momentun"),
    ],
)
def test_wrong_values_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict({"length": "5ep"} | fields)


@pytest.mark.parametrize("milestones", [["6ep"], ["4ep", "5it"], ["5ep"]])
def test_milestones_that_cannot_be_reached_are_refused(milestones: list[str]) -> None:
    recipe = Recipe(length="5ep", schedule="milestones", milestones=milestones)
    with pytest.raises(ValueError, match="milestone"):
        recipe.learning_rates(10)


@given(start=st.floats(0.01, 0.99), warmup=st.integers(1, 30), length=st.integers(1, 30))
def test_a_warm_up_from_a_share_of_the_rate_is_that_of_torch(start: float, warmup: int, length: int) -> None:
    rates = Recipe(length=f"{length}it", lr=0.2, warmup=f"{warmup}it", warmup_start=start).learning_rates(7)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.2)
    # A warm-up that is longer than the training ends with it.
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start, total_iters=min(warmup, length))
    for rate in rates:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
