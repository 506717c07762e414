"""Statements from what they mean, with every default written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from tickdsl.lang import vocabulary
from tickdsl.lang.options import field, schema
from tickdsl.lang.vocabulary import OptionType
from tickdsl.lang.writing.literals import moment, number, percentage, text
from tickdsl.plan import model
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import PCT_START

# -- values


def _value(value: Any, kind: OptionType) -> str:
    match kind.kind:
        case "int" | "float":
            return number(value)
        case "share":
            return percentage(value)
        case "moment":
            return moment(value)
        case "moments":
            return f"[{', '.join(map(moment, value))}]"
        case "words":
            return str(value[0]) if len(value) == 1 else f"[{', '.join(map(text, value))}]"
        case "flag":
            return "on" if value else "off"
        case _:
            return text(str(value))


def options(values: Mapping[str, Any], kinds: Mapping[str, OptionType]) -> list[str]:
    """`key=value` of each value that is not None, in the order of the schema."""
    said = {name: values[name] for name in kinds if values.get(name) is not None}
    return [f"{name}={_value(value, kinds[name])}" for name, value in said.items()]


def _with(start: str, values: Mapping[str, Any], kinds: Mapping[str, OptionType]) -> str:
    return " ".join([start, *options(values, kinds)])


# -- settings


def settings(arm: model.Arm) -> list[str]:
    """The arm's `model`, `data`, `train` and `split`."""
    network, data = catalogue.MODELS[arm.model.name], catalogue.DATASETS[arm.data.name]
    lines = [
        _catalogued(f"model {text(arm.model.name)}", arm.model.options, network.options),
        _catalogued(f"data {text(arm.data.name)}", arm.data.options, data.options),
        _train(arm.recipe),
    ]
    return lines if arm.split is None else [*lines, f"split {arm.split.by} {arm.split.parts}"]


def _catalogued(start: str, given: model.Options, known: Mapping[str, catalogue.Option]) -> str:
    """Options of a model or a data set; a default that only says "as it is" (0, empty) has no spelling."""
    defaults = {name: option.default for name, option in known.items() if option.default}
    return _with(start, {**defaults, **given}, schema(known))


def _train(written: model.Options) -> str:
    recipe = Recipe.from_dict(written)
    values = fields(recipe, vocabulary.TRAIN_OPTIONS)
    shape = {"milestones": ("milestones", "gamma"), "one-cycle": ("max-lr", "pct-start", "div", "final-div")}
    for schedule, names in shape.items():
        for name in names:
            if recipe.schedule != schedule and _is_default(recipe, name):
                del values[name]
    return _with(f"train {moment(recipe.length)}", values, vocabulary.TRAIN_OPTIONS)


def fields(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    """The recipe's values of options of `train`."""
    values = {name: getattr(recipe, field(name)) for name in names}
    if "augment" in values:
        values["augment"] = values["augment"] or ("none",)
    return values


def _is_default(recipe: Recipe, option: str) -> bool:
    default: Any = getattr(attrs.fields_dict(Recipe)[field(option)], "default", None)
    return bool(getattr(recipe, field(option)) == default)


# -- the pipeline


def prune(meant: model.Prune, matched: str) -> str:
    """`matched`: the name of the arm that is matched, where one is."""
    return " ".join(["prune", meant.unit, meant.scope, _amount(meant.amount, matched), *_clauses(meant)])


def _amount(amount: model.Amount, matched: str) -> str:
    match amount:
        case model.Share(share, of):
            return f"{percentage(share)} of {of}"
        case model.Count(count):
            return str(count)
        case model.To(share):
            return f"to {percentage(share)}"
        case model.Stages(shares):
            return f"[{', '.join(map(percentage, shares))}]"
        case model.Matching():
            return f"matching {matched}"


def _clauses(meant: model.Prune) -> Iterator[str]:
    if meant.times is not None and meant.settles is None:
        yield f"x {meant.times}"
    if meant.until is not None:
        yield f"until {percentage(meant.until)}"
    if meant.ends is not None:
        yield f"until {condition(meant.ends)}"
    if meant.settles is not None:
        yield f"until {condition(meant.settles)}"
    yield f"by {text(meant.by)}"
    if meant.at is not None:
        yield f"at {moment(meant.at)}"
    if meant.within:
        yield f"in {', '.join(map(text, meant.within))}"
    if meant.protect:
        yield f"except {', '.join(map(text, meant.protect))}"


def report_options(metrics: Iterable[str], meant: model.Measuring) -> list[str]:
    """The options of `report` that its metrics read."""
    readers, asked = vocabulary.REPORT_READERS, set(metrics)
    kinds = {name: kind for name, kind in vocabulary.REPORT_OPTIONS.items() if asked.intersection(readers[name])}
    return options(attrs.asdict(meant), kinds)


def condition(meant: model.Condition) -> str:
    bound = percentage(meant.bound) if meant.metric in ("accuracy", "sparsity") else number(meant.bound)
    return f"{meant.metric} {meant.comparison} {bound}"


def tail(meant: model.Tail, arm: model.Arm, teacher: str) -> str:
    """`teacher`: the name of the arm that teaches, where one does."""
    match meant:
        case model.Overlap(at_least):
            return f"overlap {at_least} of {arm.split.parts if arm.split else at_least}"
        case model.Rewind(what, to):
            return f"rewind {what} to {moment(to)}"
        case model.Retrain():
            return _retrain(meant)
        case model.Distill():
            values = {name: getattr(meant, name) for name in vocabulary.DISTILL_OPTIONS}
            return _with(f"distill from {teacher}", values, vocabulary.DISTILL_OPTIONS)


def _retrain(meant: model.Retrain) -> str:
    recipe = Recipe.from_dict(meant.recipe)
    allowed = {name: vocabulary.RETRAIN_OPTIONS[name] for name in vocabulary.SCHEDULES[meant.schedule].options}
    shaping = {"lr", "min-lr", "pct-start", "gamma", "max-lr", "div", "final-div"}
    values = {**fields(recipe, [name for name in allowed if name not in shaping]), **shape(meant, recipe)}
    return _with(f"retrain {text(meant.schedule)} {moment(recipe.length)}", values, allowed)


def shape(meant: model.Retrain, recipe: Recipe) -> dict[str, Any]:
    """The options that shape the schedule of a retraining."""
    given: Mapping[str, Any] = meant.given or {}
    rising = given.get("pct_start", PCT_START)
    match meant.schedule:
        case "scaled" if recipe.schedule == "one-cycle":
            return {"lr": recipe.max_lr, "gamma": recipe.gamma}
        case "one-cycle":
            names = ("max-lr", "pct-start", "div", "final-div")
            return {name: getattr(recipe, field(name)) for name in names}
        case "cyclic":
            return {"lr": recipe.lr, "min-lr": recipe.min_lr, "pct-start": rising}
        case "linear":
            return {"lr": recipe.lr, "pct-start": rising}
        case "scaled":
            values: dict[str, Any] = {"lr": recipe.lr, "pct-start": rising}
            if recipe.warmup.amount:
                values["min-lr"] = recipe.rise_from
            if recipe.schedule == "milestones" or not _is_default(recipe, "gamma"):
                values["gamma"] = recipe.gamma
            return values
        case "fine-tune" | "scratch":
            return {"lr": recipe.lr}
        case _:
            own = ("lr", "min-lr", "pct-start", "gamma", "div", "final-div")
            return {name: getattr(recipe, field(name)) for name in own}


def transfer(meant: model.Transfer) -> str:
    """The statement without what it holds in braces."""
    known = catalogue.DATASETS[meant.data.name].options
    return f"{_catalogued(f'transfer to {text(meant.data.name)}', meant.data.options, known)} head={meant.head}"
