"""The rules in the option schemas say exactly when an option has no effect, as the recipes themselves show."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tickdsl.lang import option_schemas, registries
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.option_schemas import recipe_field, recipe_settings
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import retraining_recipe

PER_EPOCH = 10
#: Values of each option that shapes a training, among them those with a meaning of their own.
VALUES: dict[str, tuple[Any, ...]] = {
    "opt": ("sgd", "adam", "adamw"),
    "lr": (0.05, 0.2),
    "batch": (16, 64),
    "momentum": (0.0, 0.5, 0.9),
    "beta1": (0.9, 0.5),
    "beta2": (0.999, 0.9),
    "decay": (0.0, 1e-4),
    "schedule": ("constant", "milestones", "cosine", "one-cycle", "linear"),
    "milestones": (["3ep"], ["2ep", "6ep"]),
    "gamma": (0.2, 0.5, 1.0),
    "warmup": ("0ep", "1ep", "2ep"),
    "max-lr": (0.3, 0.6),
    "pct-start": (0.2, 0.25, 0.45),
    "div": (5.0, 20.0),
    "final-div": (10.0, 500.0),
    "min-lr": (0.001, 0.004),
    "precision": ("fp32", "bf16"),
    "compile": ("off", "on"),
    "augment": (["crop"], ["flip"]),
    "label-smoothing": (0.0, 0.1),
    "patience": ("0ep", "2ep", "3ep"),
    "monitor": ("loss", "metric"),
    "bn-l1": (0.0, 1e-4),
    "warmup-start": (0.0, 0.1),
    "mixup": (0.0, 0.2),
    "cutmix": (0.0, 1.0),
    "ema": (0.0, 0.9),
    "accumulate": (1, 2, 4),
    "clip": (0.0, 1.0),
    "loss": (None, "cross-entropy"),
    "class-weights": ([], "balanced", [1.0, 2.0]),
    "sampling": ("uniform", "balanced"),
    "bias-lr": (1.0, 64.0),
    "resize-from": (0.0, 0.5),
}
#: `nesterov=on` is an error wherever it would do nothing.
WITHOUT_RULES = {"nesterov"}


def what_is_trained(recipe: Recipe) -> Any:
    """Everything of a recipe that the training loop and the optimiser read."""
    cycled = recipe.schedule == "one-cycle" and recipe.momentum
    momenta = recipe.momenta(PER_EPOCH).tolist() if cycled or recipe.optimizer == "sgd" else []
    rates = recipe.learning_rates(PER_EPOCH).tolist()
    others = (recipe.optimizer, recipe.batch, recipe.decay, recipe.precision, recipe.compile, recipe.augment)
    beta1 = recipe.beta1 if recipe.schedule != "one-cycle" else None  # which sets it itself
    betas = (beta1, recipe.beta2) if recipe.optimizer != "sgd" else ()
    stopping = (str(recipe.patience), recipe.monitor if recipe.patience.amount else "")
    return (
        rates,
        momenta,
        betas,
        *others,
        recipe.label_smoothing,
        recipe.bn_l1,
        recipe.clip,
        recipe.accumulate,
        recipe.ema,
        recipe.mixup,
        recipe.cutmix,
        stopping,
        recipe.loss,
        recipe.class_weights,
        recipe.sampling,
        recipe.bias_lr if recipe.optimizer == "sgd" else None,
        recipe.resize_from,
    )


def recipes_with(values: dict[str, Any], option: str, **fixed: Any) -> Iterator[Recipe]:
    """The recipe under every value of one option."""
    for value in VALUES[option]:
        fields = {recipe_field(name): given for name, given in {**values, option: value}.items()}
        yield Recipe.from_dict({"length": "8ep", **fields, **fixed})


def test_every_option_of_a_training_is_varied() -> None:
    shapes = {*option_schemas.TRAIN_OPTIONS, *option_schemas.RETRAIN_OPTIONS} - WITHOUT_RULES
    assert shapes == set(VALUES)


@pytest.mark.parametrize("option", sorted({*option_schemas.TRAIN_OPTIONS} - WITHOUT_RULES))
def test_an_option_of_train_is_idle_exactly_if_no_value_changes_the_training(option: str) -> None:
    dice, kind, seen = random.Random(option), option_schemas.TRAIN_OPTIONS[option], set()
    others = [name for name in option_schemas.TRAIN_OPTIONS if name not in (option, *WITHOUT_RULES)]
    for schedule, opt, _ in itertools.product(VALUES["schedule"], VALUES["opt"], range(6)):
        values = {name: dice.choice(VALUES[name]) for name in others if dice.random() < 0.5}
        values |= {"schedule": schedule, "opt": opt}
        values.pop(option, None)
        if schedule == "milestones" and option != "milestones":
            values["milestones"] = ["3ep"]
        if option in ("schedule", "opt"):
            continue  # two schedules or optimizers are never the same training
        recipes = list(recipes_with(values, option))
        trained = [what_is_trained(recipe) for recipe in recipes]
        for recipe, outcome in zip(recipes, trained, strict=True):
            idle = kind.reason_for_no_effect(recipe_settings(recipe), {*values, option}) is not None
            # A value does something if no training without it is the same.
            alike = [other for other, outcome_there in zip(recipes, trained, strict=True) if outcome_there == outcome]
            assert idle == (len(alike) > 1 or len(recipes) == 1), (
                values,
                option,
                getattr(recipe, recipe_field(option)),
            )
            seen.add(idle)
    assert seen == {False, True} if kind.idle else True not in seen


@pytest.mark.parametrize("base_schedule", VALUES["schedule"])
@pytest.mark.parametrize("schedule", option_schemas.SCHEDULE_OPTIONS)
@pytest.mark.parametrize("length", ["8ep", "3ep"])
def test_an_option_of_retrain_is_idle_exactly_if_no_value_changes_the_training(
    schedule: str, base_schedule: str, length: str
) -> None:
    shape = {"schedule": base_schedule, "milestones": ["4ep"] if base_schedule == "milestones" else []}
    base = Recipe.from_dict({"length": "16ep", "lr": 0.1, **shape})
    for option, opt in itertools.product(registries.SCHEDULES[schedule].options, ("sgd", "adam")):
        if option in ("opt", "schedule", *WITHOUT_RULES) or (option, length) == ("milestones", "3ep"):
            continue  # those milestones are after the end
        if option == "pct-start" and (base_schedule, length) == ("milestones", "3ep"):
            continue  # it moves milestones, but in so short a training not always by a whole epoch
        outcomes = []
        for value in VALUES[option]:
            rate = {} if option == "max-lr" else {"lr": 0.08}
            given = {"optimizer": opt, **rate, recipe_field(option): value}
            recipe = retraining_recipe(base, schedule, base.length.parse(length), given)
            kind = option_schemas.retrain_options(schedule, [option])[option]
            reason = kind.reason_for_no_effect(recipe_settings(recipe, retrain=schedule), {"opt", option})
            outcomes.append((what_is_trained(recipe), reason is not None))
        for trained, idle in outcomes:
            assert idle == (sum(trained == other for other, _ in outcomes) > 1), (option, opt)


def codes(text: str) -> list[str]:
    return [d.code for d in resolve(load_source(Source("test.plan", text))).diagnostics]


def test_plug_in_schedules_may_read_every_option() -> None:
    settings = {**recipe_settings(Recipe(length="8ep", patience="2ep", warmup="1ep")), "schedule": "theirs"}
    kinds = {**option_schemas.TRAIN_OPTIONS, **option_schemas.RETRAIN_OPTIONS}
    assert [name for name, kind in kinds.items() if kind.reason_for_no_effect(settings)] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("retrain scaled 8ep lr=0.2 gamma=0.5", True),  # the default recipe has no milestones
        ("retrain one-cycle lr=0.2 max-lr=0.3", True),
        ("retrain one-cycle max-lr=0.3", False),
        ("retrain linear opt=adam momentum=0.5", True),
    ],
)
def test_idle_options_of_retrain(text: str, found: bool) -> None:
    assert ("TD119" in codes(f"prune weights 20%; {text}")) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("compare all, dense budget=flops", 1),
        ("compare early levels=last budget=flops", 1),  # `early` always trains by multiply-adds
        ("compare random-structure levels=last budget=flops", 0),
        ("compare all levels=all budget=epochs", 2),
    ],
)
def test_options_of_compare_without_controls(text: str, found: int) -> None:
    assert codes(f"prune weights 20%; rewind lr; {text}").count("TD119") == found


@pytest.mark.parametrize(("prune", "found"), [("layers local 2", 1), ("blocks uniform 2", 1), ("layers global 2", 0)])
def test_layers_are_ranked_together(prune: str, found: int) -> None:
    assert codes(f"model resnet20\nprune {prune}; rewind lr").count("TD119") == found


def test_two_compare_statements_may_not_disagree() -> None:
    text = "prune weights 20%; rewind lr\ncompare random-init within=1%\ncompare all within="
    assert "TD108" in codes(f"{text}2%")
    assert "TD108" not in codes(f"{text}1%")


@pytest.mark.parametrize("words", ["[crop, crop]", "[none, flip]", "[rotation, none]"])
def test_augmentations_without_effect(words: str) -> None:
    assert "TD105" in codes(f"train 4ep augment={words}\nprune weights 20%; rewind lr")


def test_scratch_sets_the_peak_of_a_one_cycle_recipe() -> None:
    base = Recipe.from_dict({"length": "8ep", "schedule": "one-cycle", "max_lr": 0.2})
    assert retraining_recipe(base, "scratch", None, {"lr": 0.4}).peak_lr == 0.4
