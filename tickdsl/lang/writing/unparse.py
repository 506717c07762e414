"""Turn the nodes of a resolved plan back into statements, with every default written out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs

from tickdsl.lang import option_schemas, registries, vocabulary
from tickdsl.lang.option_schemas import OptionType, option_schema, recipe_field
from tickdsl.lang.writing.literals import format_moment, format_name, format_number, format_percentage
from tickdsl.plan import model
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import PCT_START

# -- values


def _format_value(value: Any, kind: OptionType) -> str:
    match kind.kind:
        case "int" | "float":
            return format_number(value)
        case "share" | "points":
            return format_percentage(value)
        case "moment":
            return format_moment(value)
        case "moments":
            return f"[{', '.join(map(format_moment, value))}]"
        case "weights":
            return value if isinstance(value, str) else f"[{', '.join(map(format_number, value))}]"
        case "words" | "augmentations":
            return format_name(str(value[0])) if len(value) == 1 else f"[{', '.join(map(format_name, value))}]"
        case "names":
            return f"[{', '.join(map(format_name, value))}]"
        case "flag":
            return "on" if value else "off"
        case _:
            return format_name(str(value))


def options(values: Mapping[str, Any], kinds: Mapping[str, OptionType]) -> list[str]:
    """`key=value` for each value that is not None, in the order of the schema `kinds`."""
    set_values = {name: values[name] for name in kinds if values.get(name) is not None}
    return [f"{name}={_format_value(value, kinds[name])}" for name, value in set_values.items()]


def _with(start: str, values: Mapping[str, Any], kinds: Mapping[str, OptionType]) -> str:
    return " ".join([start, *options(values, kinds)])


# -- settings


def settings(arm: model.Arm) -> list[str]:
    """The `model`, `data`, `train` and `split` statements of an arm."""
    network, data = catalogue.MODELS[arm.model.name], catalogue.DATASETS[arm.data.name]
    lines = [
        _with_defaults(f"model {format_name(arm.model.name)}", arm.model.options, network.options),
        _with_defaults(f"data {format_name(arm.data.name)}", arm.data.options, data.options),
        _train(Recipe.from_dict(arm.recipe)),
    ]
    return lines if arm.split is None else [*lines, f"split {arm.split.by} {arm.split.parts}"]


def _with_defaults(start: str, values: model.Options, known: Mapping[str, catalogue.Option]) -> str:
    """A `model`, `data` or `transfer` statement with its options and defaults. Zero or empty defaults are left out."""
    defaults = {name: option.default for name, option in known.items() if option.default}
    return _with(start, {**defaults, **values}, option_schema(known))


def _train(recipe: Recipe, start: str = "train") -> str:
    values = recipe_options(recipe, option_schemas.TRAIN_OPTIONS)
    settings = option_schemas.recipe_settings(recipe)
    for name, kind in option_schemas.TRAIN_OPTIONS.items():
        if _is_default(recipe, name) and kind.reason_for_no_effect(settings, _set_options(values)):
            del values[name]
    return _with(f"{start} {format_moment(recipe.length)}", values, option_schemas.TRAIN_OPTIONS)


def _set_options(values: Mapping[str, Any]) -> set[str]:
    """The options that are written: those with a value."""
    return {name for name, value in values.items() if value is not None}


def recipe_options(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    """The values that a recipe has for these `train` options."""
    values = {name: getattr(recipe, recipe_field(name)) for name in names}
    if "augment" in values:
        values["augment"] = values["augment"] or ("none",)
    if "class-weights" in values:
        values["class-weights"] = values["class-weights"] or "none"
    return values


def _is_default(recipe: Recipe, option: str) -> bool:
    default: Any = getattr(attrs.fields_dict(Recipe)[recipe_field(option)], "default", None)
    return bool(getattr(recipe, recipe_field(option)) == default)


# -- the pipeline


def prune(node: model.Prune, matched: str) -> str:
    """A `prune` statement. `matched` is the name of the arm of `matching ARM`."""
    return " ".join(["prune", node.unit, node.scope, _amount(node.amount, matched), *_prune_clauses(node)])


def _amount(amount: model.Amount, matched: str) -> str:
    match amount:
        case model.Share(share, of):
            return f"{format_percentage(share)} of {of}"
        case model.Count(count):
            return str(count)
        case model.To(share):
            return f"to {format_percentage(share)}"
        case model.ToCost(share, cost):
            return f"to {format_percentage(share)} of {cost}"
        case model.Rates(rates, of):
            listed = f"[{', '.join(f'{format_name(layer)}: {format_percentage(share)}' for layer, share in rates)}]"
            return f"to {listed}" if of == "target" else f"{listed} of {of}"
        case model.Stages(shares, of):
            return f"[{', '.join(map(format_percentage, shares))}] of {of}"
        case model.Matching():
            return f"matching {matched}"


def _prune_clauses(node: model.Prune) -> Iterator[str]:
    if node.times is not None and node.settles is None:
        yield f"x {node.times}"
    if node.until is not None:
        yield f"until {format_percentage(node.until)}"
    if node.ends is not None:
        yield f"until {condition(node.ends)}"
    if node.settles is not None:
        yield f"until {condition(node.settles)}"
    yield f"by {format_name(node.by)}"
    if node.at is not None:
        yield f"at {format_moment(node.at)}"
    if node.gradual is not None:
        gradual = node.gradual
        moments = (format_moment(moment) for moment in (gradual.start, gradual.end, gradual.every))
        yield "from {} to {} every {}".format(*moments)
    if node.via is not None:
        yield f"via {type(node.via).__name__.lower()}"
    if node.within:
        yield f"in {', '.join(map(format_name, node.within))}"
    if node.protect:
        yield f"except {', '.join(map(format_name, node.protect))}"
    if node.order != "lowest":
        yield f"order={node.order}"
    if node.multiple > 1:
        yield f"multiple={node.multiple}"
    if node.evaluations is not None:
        yield f"evaluations={node.evaluations}"
    if node.gradual is not None:
        yield f"curve={node.gradual.curve}"
    if node.via is not None:
        values = attrs.asdict(node.via, recurse=False)
        if isinstance(node.via, model.Penalty):
            recipe = Recipe.from_dict(node.via.recipe)
            values |= {"lr": recipe.lr, "batch": recipe.batch}
        yield from options(values, option_schemas.PRUNE_OPTIONS)


def report_options(metrics: Iterable[str], node: model.MeasurementOptions) -> list[str]:
    """The options of `report` that its metrics use."""
    reported = set(metrics)
    kinds = {
        name: kind
        for name, kind in option_schemas.REPORT_OPTIONS.items()
        if reported.intersection(option_schemas.REPORT_OPTION_METRICS[name])
    }
    values = {**attrs.asdict(node), "every": node.every and str(node.every)}
    return options(values, kinds)


def condition(node: model.Condition) -> str:
    """The text of a condition: `accuracy < 90%`."""
    is_percentage = node.percentage or vocabulary.is_percentage(node.metric)
    bound = format_percentage(node.bound) if is_percentage else format_number(node.bound)
    return f"{node.metric} {node.comparison} {bound}"


def tail(node: model.Tail, arm: model.Arm, names: Sequence[str] = ()) -> str:
    """A statement after a prune. `names` are those of the arms that it refers to."""
    match node:
        case model.Overlap(at_least):
            return f"overlap {at_least} of {arm.split.parts if arm.split else at_least}"
        case model.Refill():
            return _with(f"refill filters by {node.by}", {"extra": node.extra or None}, option_schemas.REFILL_OPTIONS)
        case model.Regroup(groups, ratio, min_rows):
            sizes = {"groups": groups, "ratio": ratio, "min-rows": min_rows}
            return _with("regroup", sizes, option_schemas.REGROUP_OPTIONS)
        case model.Union():
            return f"union of {', '.join(names)}"
        case model.Recalibrate():
            return "recalibrate"
        case model.Rewind(what, to):
            moment = [] if node.current else [f"to {format_moment(to)}"]
            return " ".join([f"rewind {what}", *_donor(node), *moment, *_alignment(node)])
        case model.MaskOf():
            source = _run_of(node) if node.run else [*_donor(node), *_alignment(node)]
            return " ".join(["rewind mask", *source])
        case model.Perturb(share):
            return f"perturb {format_percentage(share)}"
        case model.Retrain():
            return _retrain(node, Recipe.from_dict(arm.recipe))
        case model.Grow(unit, amount, by):
            match amount:
                case None:
                    return f"grow {unit} all"
                case Fraction():
                    return f"grow {unit} {format_percentage(amount)} by {by}"
                case _:
                    return f"grow {unit} {amount} by {by}"
        case model.Evolve():
            values = {"grow": node.grow, "every": node.every, "until": node.until, "fan-in": node.fan_in}
            start = f"evolve weights {format_percentage(node.share)} by magnitude"
            return _with(start, values, option_schemas.EVOLVE_OPTIONS)
        case model.Distill():
            values = {name: getattr(node, name) for name in option_schemas.DISTILL_OPTIONS}
            return _with(f"distill from {names[0]}", values, option_schemas.DISTILL_OPTIONS)


def _donor(node: model.FromSeed) -> list[str]:
    """Which seed something is taken from, as a clause."""
    if not node.of:
        return []
    return ["of next seed" if node.of == model.NEXT_SEED else f"of seed {node.of}"]


def _run_of(node: model.MaskOf) -> list[str]:
    """Which run a mask is taken from, as a clause and options."""
    chosen = {"arm": node.arm or None, "level": node.level, "seed": node.seed}
    return [f"of run {format_name(node.run)}", *options(chosen, option_schemas.REWIND_OPTIONS)]


def _alignment(node: model.FromSeed) -> list[str]:
    values: dict[str, Any] = {"align": node.align or None}
    if node.images:
        values |= {"match": "activations", "images": node.images}
    return options(values, option_schemas.REWIND_OPTIONS)


def _retrain(node: model.Retrain, base: Recipe) -> str:
    recipe = Recipe.from_dict(node.recipe)
    if node.schedule == "recipe":
        return _train(recipe, "retrain recipe")
    allowed = option_schemas.retrain_options(node.schedule, registries.SCHEDULES[node.schedule].options)
    shaping = {"lr", "min-lr", "pct-start", "gamma", "max-lr", "div", "final-div"}
    values = {
        **recipe_options(recipe, [name for name in allowed if name not in shaping]),
        **schedule_options(node, recipe),
    }
    settings = option_schemas.recipe_settings(recipe, retrain=node.schedule)
    for name, kind in allowed.items():
        inherited = name not in shaping and values[name] == recipe_options(base, [name])[name]
        if inherited and kind.reason_for_no_effect(settings):
            del values[name]
    return _with(f"retrain {format_name(node.schedule)} {format_moment(recipe.length)}", values, allowed)


def schedule_options(node: model.Retrain, recipe: Recipe) -> dict[str, Any]:
    """The values of the options that set the learning rates of a `retrain`."""
    written: Mapping[str, Any] = node.given or {}
    pct_start = written.get("pct_start", PCT_START)
    match node.schedule:
        case "scaled" if recipe.schedule == "one-cycle":
            return {"lr": recipe.max_lr, "gamma": recipe.gamma}
        case "one-cycle":
            names = ("max-lr", "pct-start", "div", "final-div")
            return {name: getattr(recipe, recipe_field(name)) for name in names}
        case "cyclic":
            return {"lr": recipe.lr, "min-lr": recipe.min_lr, "pct-start": pct_start}
        case "linear":
            return {"lr": recipe.lr, "pct-start": pct_start}
        case "scaled":
            values: dict[str, Any] = {"lr": recipe.lr, "pct-start": pct_start}
            if recipe.warmup.amount:
                values["min-lr"] = recipe.rise_from
            if recipe.schedule == "milestones" or not _is_default(recipe, "gamma"):
                values["gamma"] = recipe.gamma
            return values
        case "recipe":
            return {}  # all are the recipe's
        case "fine-tune" | "scratch":
            return {"lr": recipe.peak_lr}
        case _:
            plugin_options = ("lr", "min-lr", "pct-start", "gamma", "div", "final-div")
            return {name: getattr(recipe, recipe_field(name)) for name in plugin_options}


def transfer(node: model.Transfer) -> str:
    """A `transfer` statement without its block."""
    known = catalogue.DATASETS[node.data.name].options
    return f"{_with_defaults(f'transfer to {format_name(node.data.name)}', node.data.options, known)} head={node.head}"


def elastic(node: model.Elastic) -> str:
    """A `stretch` or `squeeze` statement."""
    known = catalogue.architecture_options(catalogue.MODELS[node.model.name].options)
    start = _with_defaults(f"{node.verb} to {format_name(node.model.name)}", node.model.options, known)
    if node.order is not None:
        return f"{start} order={node.order}"
    drop = node.drop if isinstance(node.drop, str) else f"[{', '.join(map(format_name, node.drop))}]"
    return f"{start} drop={drop}"
