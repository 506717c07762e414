"""The settings of one scope: which network on which data, split how, trained by which recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.diagnostics import Diagnostic
from tickdsl.lang.values import Reader, Unreadable
from tickdsl.lang.vocabulary import OptionType
from tickdsl.plan.model import Data, Model, Split
from tickdsl.training import catalogue
from tickdsl.training.recipes import Recipe

DEFAULT_MODEL, DEFAULT_DATA = "small-cnn", "digits"
#: Seconds on a CPU for the default model on the default data.
DEFAULT_RECIPE: dict[str, Any] = {
    "length": "12ep", "lr": 0.1, "batch": 64, "momentum": 0.9, "decay": 5e-4, "schedule": "cosine",
}  # fmt: skip
#: What a `train` statement means by the options that it leaves out.
TRAIN_DEFAULTS: dict[str, Any] = {"lr": 0.1, "batch": 128, "momentum": 0.9}
ADAM_DEFAULTS: dict[str, Any] = {"lr": 1e-3, "batch": 128}

S = TypeVar("S", bound=syntax.Statement)


@attrs.frozen
class Scope:
    """The settings in force for an arm."""

    model: Model
    data: Data
    recipe: dict[str, Any]
    recipe_span: syntax.Span
    split: Split | None


def read(
    shared: Iterable[syntax.Statement],
    own: Iterable[syntax.Statement],
    reader: Reader,
    source: syntax.Source,
) -> Scope | None:
    """The settings of an arm: its own, else the plan's, else the defaults. None where one is wrong."""
    inner, outer = list(own), list(shared)
    start = beginning(source)
    model_statement = _first(inner, syntax.Model) or _first(outer, syntax.Model)
    failed = False

    def attempt(reading: Any, *args: Any) -> Any:
        nonlocal failed
        try:
            return reading(*args)
        except Unreadable:
            failed = True
            return None

    network = attempt(_model, model_statement, reader, start)
    data = attempt(_data, inner, outer, reader, start)
    recipe = attempt(_recipe, _first(inner, syntax.Train) or _first(outer, syntax.Train), reader, start)
    split = attempt(_split, _first(inner, syntax.Split) or _first(outer, syntax.Split), reader)
    if failed:
        return None
    return Scope(network, data, recipe[0], recipe[1], split)


def beginning(source: syntax.Source) -> syntax.Span:
    """The plan's first word: where findings about what is not written stand."""
    word = re.search(r"^[ \t]*([^\s#]+)", source.text, re.MULTILINE)
    return syntax.Span(source, *word.span(1)) if word else syntax.Span(source, 0, 0)


def _first(statements: Iterable[syntax.Statement], kind: type[S]) -> S | None:
    return next((s for s in statements if isinstance(s, kind)), None)


def schema(options: Any) -> dict[str, OptionType]:
    """The catalogue's option table as the language reads it."""
    kinds = {int: "int", float: "float", str: "text", bool: "flag"}
    return {
        name: OptionType(kinds[option.type], option.summary, least=getattr(option, "least", None))
        for name, option in options.items()
    }


def _model(statement: syntax.Model | None, reader: Reader, start: syntax.Span) -> Model:
    if statement is None:
        reader.report(
            Diagnostic(
                "TD901",
                f"no `model`: {DEFAULT_MODEL} is used",
                start,
                help=f"write `model {DEFAULT_MODEL}` to say so, or another one",
            )
        )
        return Model(DEFAULT_MODEL, span=start)
    name = reader.named(statement.name, catalogue.MODELS, "TD101")
    known_options = catalogue.MODELS[name].options
    options = chosen(reader.options(statement.options, schema(known_options), name), known_options)
    return Model(name, options, span=statement.name.span)


def _data(inner: list[syntax.Statement], outer: list[syntax.Statement], reader: Reader, start: syntax.Span) -> Data:
    for scope in (inner, outer):
        statement = _first(scope, syntax.Data)
        if statement is not None:
            name = reader.named(statement.name, catalogue.DATASETS, "TD102")
            known_options = catalogue.DATASETS[name].options
            options = chosen(reader.options(statement.options, schema(known_options), name), known_options)
            return Data(name, options, span=statement.name.span)
        network = _first(scope, syntax.Model)
        if network is not None and network.data is not None:
            name = reader.named(network.data, catalogue.DATASETS, "TD102")
            return Data(name, span=network.data.span)
    return Data(DEFAULT_DATA, span=start)


def _recipe(statement: syntax.Train | None, reader: Reader, start: syntax.Span) -> tuple[dict[str, Any], syntax.Span]:
    if statement is None:
        written = " ".join(f"{name}={value}" for name, value in DEFAULT_RECIPE.items() if name != "length")
        reader.report(
            Diagnostic(
                "TD902",
                f"no `train`: the default recipe is used, `train {DEFAULT_RECIPE['length']} {written}`",
                start,
                help="write a `train` statement to choose your own",
            )
        )
        return _canonical(DEFAULT_RECIPE), start
    given = reader.options(statement.options, vocabulary.TRAIN_OPTIONS, "train")
    length = str(reader.moment(statement.length, "the training's length")) if statement.length else None
    if length is not None and (length.endswith("%") or length == "0it"):
        reader.report(Diagnostic("TD105", f"a training of {length} has no length", statement.span, help="train 160ep"))
        raise Unreadable
    recipe = {field(name): value for name, value in given.items()}
    defaults = ADAM_DEFAULTS if recipe.get("optimizer") in ("adam", "adamw") else TRAIN_DEFAULTS
    if "milestones" in recipe:
        recipe.setdefault("schedule", "milestones")
    if "max_lr" in recipe:
        recipe.setdefault("schedule", "one-cycle")
    if "augment" in recipe:
        recipe["augment"] = [word for word in recipe["augment"] if word != "none"]
    full = {"length": length or DEFAULT_RECIPE["length"], **defaults, **recipe}
    return _canonical(full), statement.span


def _canonical(recipe: dict[str, Any]) -> dict[str, Any]:
    """Without what is said but is the default anyway, so that one recipe has one spelling."""
    try:
        return Recipe.from_dict(recipe).to_dict()
    except ValueError:
        return recipe  # `check` says what is wrong with it


def chosen(options: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The options that are not their defaults."""
    return {name: value for name, value in options.items() if value != schema[name].default}


def field(option: str) -> str:
    """A `train` option's name in a recipe."""
    return "optimizer" if option == "opt" else option.replace("-", "_")


def _split(statement: syntax.Split | None, reader: Reader) -> Split | None:
    if statement is None:
        return None
    reader.options(statement.options, vocabulary.SPLIT_OPTIONS, "split")
    by = reader.word(statement.by, vocabulary.SPLITS, "split")
    parts = reader.integer(statement.parts, "the number of parts")
    if parts < 2:
        reader.report(
            Diagnostic("TD503", f"`split {by} {parts}` has nothing to split", statement.span, help=f"split {by} 2")
        )
        raise Unreadable
    return Split(by, parts, span=statement.span)
