"""Retraining schedules, compared with what the papers' code computes with torch's schedulers."""

from __future__ import annotations

import math
from fractions import Fraction

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.moments import Moment
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import retraining_recipe, scale_length, stretch

#: The base training of Le & Hua 2021 on CIFAR.
BASE = Recipe(length="160ep", lr=0.1, batch=64, decay=1e-4, schedule="milestones", milestones=("80ep", "120ep"))
PER_EPOCH = 5
BUDGETS = (40, 56, 72, 88, 104, 120, 136, 152)


def by_epoch(recipe: Recipe) -> list[float]:
    """The rate of each epoch's first step."""
    return [float(rate) for rate in recipe.learning_rates(PER_EPOCH)[::PER_EPOCH]]


def optimizer(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def rates_of(schedule: torch.optim.lr_scheduler.LRScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("epochs", BUDGETS)
def test_fine_tuning_goes_on_at_the_last_rate(epochs: int) -> None:
    recipe = retraining_recipe(BASE, "fine-tune", Moment(epochs, "ep"))
    assert by_epoch(recipe) == pytest.approx([0.001] * epochs)
    assert (recipe.batch, recipe.decay, recipe.momentum) == (64, 1e-4, 0.9)
    assert by_epoch(retraining_recipe(BASE, "fine-tune", Moment(2, "ep"), {"lr": 0.003})) == [0.003, 0.003]


def paper_scaled(epochs: int) -> list[float]:
    """main_finetune.py --use_llr: a cosine warm-up once per epoch, then MultiStepLR counted from its end."""
    warmup = int(0.1 * epochs)
    after = torch.optim.lr_scheduler.MultiStepLR(
        optimizer(0.1), [int(0.5 * 0.9 * epochs), int(0.75 * 0.9 * epochs)], gamma=0.1
    )
    rising = [0.1 + (0.001 - 0.1) / 2 * (math.cos(math.pi * epoch / warmup) + 1) for epoch in range(warmup)]
    return rising + rates_of(after, epochs - warmup)


@pytest.mark.parametrize("epochs", BUDGETS)
def test_scaled_restarting_is_that_of_the_paper(epochs: int) -> None:
    recipe = retraining_recipe(BASE, "scaled", Moment(epochs, "ep"))
    np.testing.assert_allclose(by_epoch(recipe), paper_scaled(epochs), rtol=1e-9)
    # Constant within an epoch.
    rates = recipe.learning_rates(PER_EPOCH).reshape(epochs, PER_EPOCH)
    assert (rates == rates[:, :1]).all()


def test_scaled_restarting_drops_where_the_paper_says() -> None:
    rates = by_epoch(retraining_recipe(BASE, "scaled", Moment(72, "ep")))
    assert rates[0] == pytest.approx(0.001)
    assert rates[7:39] == pytest.approx([0.1] * 32)  # warm-up of 7 epochs
    assert rates[39:55] == pytest.approx([0.01] * 16)
    assert rates[55:] == pytest.approx([0.001] * 17)


@pytest.mark.parametrize("epochs", BUDGETS)
def test_one_cycle_is_that_of_the_paper(epochs: int) -> None:
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer(0.1), max_lr=0.1, div_factor=100, epochs=epochs, steps_per_epoch=PER_EPOCH, pct_start=0.1,
        final_div_factor=100,
    )  # fmt: skip
    rates, momenta = [], []
    for step in range(epochs * PER_EPOCH):
        rates.append(schedule.optimizer.param_groups[0]["lr"])
        momenta.append(schedule.optimizer.param_groups[0]["momentum"])
        schedule.optimizer.step()
        if step < epochs * PER_EPOCH - 1:
            schedule.step()
    recipe = retraining_recipe(BASE, "one-cycle", Moment(epochs, "ep"))
    np.testing.assert_allclose(recipe.learning_rates(PER_EPOCH), rates, rtol=1e-12)
    np.testing.assert_allclose(recipe.momenta(PER_EPOCH), momenta, rtol=1e-12)
    assert (rates[0], rates[-1]) == (pytest.approx(0.001), pytest.approx(1e-5))


@pytest.mark.parametrize("epochs", BUDGETS)
def test_cyclic_and_linear_rise_by_a_cosine_and_come_down(epochs: int) -> None:
    """baseRunner.py of Zimmer et al.: CosineAnnealingLR up from 0, then down to the minimum rate; or LinearLR to 0."""
    total = epochs * PER_EPOCH
    rising = int(0.1 * total)
    up = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(1e-12), T_max=rising, eta_min=0.1)
    risen = rates_of(up, rising)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer(0.1), T_max=total - rising, eta_min=0.001)
    line = torch.optim.lr_scheduler.LinearLR(optimizer(0.1), 1.0, 0.0, total_iters=total - rising)
    for name, down in (("cyclic", cosine), ("linear", line)):
        rates = retraining_recipe(BASE, name, Moment(epochs, "ep")).learning_rates(PER_EPOCH)
        np.testing.assert_allclose(rates, risen + rates_of(down, total - rising), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("epochs", "milestones"), [(152, [72, 112]), (72, [32]), (40, [])])
def test_rewinding_the_rate_is_the_end_of_the_original_trace(epochs: int, milestones: list[int]) -> None:
    """main_finetune.py --use_lr_rewind, for each of its three cases; `rewind lr to …` trains with this slice."""
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer(0.001 * 10 ** len(milestones)), milestones, gamma=0.1)
    np.testing.assert_allclose(by_epoch(BASE)[-epochs:], rates_of(schedule, epochs), rtol=1e-9)


def test_scratch_is_the_base_recipe_stretched() -> None:
    assert retraining_recipe(BASE, "scratch") == BASE
    longer = retraining_recipe(BASE, "scratch", Moment(240, "ep"))
    assert by_epoch(longer) == pytest.approx([0.1] * 120 + [0.01] * 60 + [0.001] * 60)


@pytest.mark.parametrize("length", [Moment(7, "ep"), Moment(33, "it"), Moment(161, "ep")])
def test_a_stretched_recipe_keeps_its_shares(length: Moment) -> None:
    base = Recipe(length="6ep", schedule="milestones", milestones=("2ep", "75%"), warmup="1ep")
    rates = stretch(base, length).learning_rates(PER_EPOCH)
    drops = [int(step) / len(rates) for step in np.flatnonzero(np.diff(rates) < 0) + 1]
    assert drops == pytest.approx([1 / 3, 0.75], abs=1 / len(rates))


@pytest.mark.parametrize("schedule", ["fine-tune", "scaled", "one-cycle", "cyclic", "linear", "scratch"])
def test_a_retraining_is_written_and_read_back(schedule: str) -> None:
    recipe = retraining_recipe(BASE, schedule, Moment(30, "ep"))
    again = Recipe.from_dict(recipe.to_dict())
    assert (again.learning_rates(PER_EPOCH) == recipe.learning_rates(PER_EPOCH)).all()
    assert len(again.learning_rates(PER_EPOCH)) == 30 * PER_EPOCH


def test_options_shape_the_schedule() -> None:
    recipe = retraining_recipe(
        BASE, "scaled", Moment(20, "ep"), {"lr": 0.05, "min_lr": 0.01, "pct_start": 0.2, "gamma": 0.5}
    )
    rates = by_epoch(recipe)
    assert (rates[0], max(rates), rates[-1]) == (pytest.approx(0.01), pytest.approx(0.05), pytest.approx(0.0125))
    assert rates.index(max(rates)) == 4


def test_fine_tuning_needs_a_last_rate_above_zero() -> None:
    with pytest.raises(ValueError, match="lr=0"):
        retraining_recipe(Recipe(length="10ep", schedule="cosine"), "fine-tune")


def test_a_recipe_of_its_own_is_the_recipe_with_other_options() -> None:
    base = Recipe(length="16ep", lr=0.1, milestones=["8ep", "12ep"], schedule="milestones", gamma=0.2, warmup="2ep")
    half = Moment.parse("8ep")
    assert retraining_recipe(base, "recipe") == base
    assert retraining_recipe(base, "recipe", half) == retraining_recipe(base, "scratch", half)
    changed = retraining_recipe(base, "recipe", half, {"optimizer": "adamw", "lr": 0.001, "ema": 0.9})
    assert changed == attrs.evolve(
        base, length="8ep", milestones=["4ep", "6ep"], warmup="1ep", optimizer="adamw", lr=0.001, ema=0.9
    )


def test_another_schedule_keeps_the_highest_rate_and_the_warm_up() -> None:
    base = Recipe(length="16ep", lr=0.1, milestones=["8ep", "12ep"], schedule="milestones", gamma=0.2, warmup="2ep")
    half = Moment.parse("8ep")
    cosine = retraining_recipe(base, "recipe", half, {"schedule": "cosine"})
    assert cosine == Recipe(length="8ep", lr=0.1, schedule="cosine", warmup="1ep")
    cycle = Recipe(length="16ep", schedule="one-cycle", max_lr=0.4, div=5)
    assert retraining_recipe(cycle, "recipe", half, {"schedule": "linear"}) == Recipe(
        length="8ep", lr=0.4, schedule="linear"
    )
    assert retraining_recipe(cycle, "recipe", half, {"lr": 0.2}).peak_lr == 0.2
    # Milestones of its own need no unit that the base's can be compared with.
    given = retraining_recipe(base, "recipe", Moment.parse("300it"), {"milestones": ["100it"], "warmup": "0it"})
    assert [str(moment) for moment in given.milestones] == ["100it"]


@given(st.integers(1, 40), st.sets(st.integers(1, 19), min_size=1, max_size=4), st.sampled_from(["it", "ep"]))
def test_a_training_that_is_shortened_goes_without_milestones_that_do_not_fit(
    length: int, places: set[int], unit: str
) -> None:
    base = Recipe.from_dict(
        {"length": f"20{unit}", "schedule": "milestones", "milestones": [f"{n}{unit}" for n in sorted(places)]}
    )
    scaled = scale_length(base, Fraction(length, 20), per_epoch=1)
    assert str(scaled.length) == f"{length}{unit}" and len(scaled.learning_rates(1)) == length
    if length >= 20:
        assert len(scaled.milestones) == len(places)
