"""Resolve the settings of an arm: network, data, split and training recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import attrs

from tickdsl.lang import option_schemas, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import option_effects
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.library_names import require_library
from tickdsl.lang.meaning.values import InvalidValueError, ValueLocation, ValueReader
from tickdsl.lang.option_schemas import option_schema, recipe_field
from tickdsl.moments import Moment
from tickdsl.plan.model import Data, Model, Split
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe

#: What a quoted name of a data set of the Hugging Face Hub begins with.
_HUB = "hf:"
DEFAULT_MODEL, DEFAULT_DATA = "small-cnn", "digits"
#: Trains the default model on the default data in seconds on a CPU.
DEFAULT_RECIPE: dict[str, Any] = {
    "length": "12ep", "lr": 0.1, "batch": 64, "momentum": 0.9, "decay": 5e-4, "schedule": "cosine",
}  # fmt: skip
#: Defaults of the options of `train`.
TRAIN_DEFAULTS: dict[str, Any] = {"lr": 0.1, "batch": 128, "momentum": 0.9}
ADAM_DEFAULTS: dict[str, Any] = {"lr": 1e-3, "batch": 128}

#: The longest training, in epochs and in steps: the learning rate of every step is kept in memory.
MAX_LENGTH = {"ep": 100_000, "it": 100_000_000}

S = TypeVar("S", bound=syntax.Statement)


@attrs.frozen
class ArmSettings:
    """The settings of an arm."""

    model: Model
    data: Data
    recipe: dict[str, Any]
    recipe_span: syntax.Span
    recipe_places: Mapping[str, ValueLocation]
    split: Split | None


def resolve(
    shared: Iterable[syntax.Statement],
    own: Iterable[syntax.Statement],
    reader: ValueReader,
    source: syntax.Source,
) -> ArmSettings | None:
    """Resolve the settings of an arm: its own, else the plan's, else the defaults.

    Returns None, after reporting the errors, if one is wrong.
    """
    inner, outer = list(own), list(shared)
    start = first_word_span(source)
    model_statement = _first_of_type(inner, syntax.Model) or _first_of_type(outer, syntax.Model)
    failed = False

    def attempt(reading: Any, *args: Any) -> Any:
        nonlocal failed
        try:
            return reading(*args)
        except InvalidValueError:
            failed = True
            return None

    data = attempt(_data, inner, outer, model_statement, reader, start)
    network = attempt(_model, model_statement, data, reader, start)
    recipe = attempt(_recipe, _first_of_type(inner, syntax.Train) or _first_of_type(outer, syntax.Train), reader, start)
    split = attempt(_split, _first_of_type(inner, syntax.Split) or _first_of_type(outer, syntax.Split), reader)
    if failed:
        return None
    fields, span, written = recipe
    return ArmSettings(network, data, fields, span, written, split)


def first_word_span(source: syntax.Source) -> syntax.Span:
    """The span of the plan's first word, for findings about something missing."""
    word = re.search(r"^[ \t]*([^\s#]+)", source.text, re.MULTILINE)
    return syntax.Span(source, *word.span(1)) if word else syntax.Span(source, 0, 0)


def _first_of_type(statements: Iterable[syntax.Statement], kind: type[S]) -> S | None:
    return next((s for s in statements if isinstance(s, kind)), None)


def _model(statement: syntax.Model | None, data: Data | None, reader: ValueReader, start: syntax.Span) -> Model:
    if statement is None:
        on = f" on {DEFAULT_DATA}" if data is not None and data.span == start else ""
        reader.report(
            Diagnostic(
                "TD901",
                f"no `model` statement: using the default `model {DEFAULT_MODEL}{on}`",
                start,
                help=f"add `model {DEFAULT_MODEL}{on}`, or another model",
            )
        )
        return Model(DEFAULT_MODEL, span=start)
    require_library(statement.name, reader)
    name = reader.table_name(statement.name, catalogue.MODELS, "TD101")
    known_options = catalogue.MODELS[name].options
    options = non_default(reader.options(statement.options, option_schema(known_options), name), known_options)
    return Model(name, options, span=statement.name.span)


def _data(
    inner: list[syntax.Statement],
    outer: list[syntax.Statement],
    model: syntax.Model | None,
    reader: ValueReader,
    start: syntax.Span,
) -> Data:
    for scope in (inner, outer):
        statement = _first_of_type(scope, syntax.Data)
        if statement is not None:
            name, place = data_name(statement.name, reader)
            known_options = catalogue.DATASETS[name].options
            options = non_default(reader.options(statement.options, option_schema(known_options), name), known_options)
            return Data(name, {**options, **place}, span=statement.name.span)
        network = _first_of_type(scope, syntax.Model)
        if network is not None and network.data is not None:
            name, place = data_name(network.data, reader)
            return Data(name, place, span=network.data.span)
    if model is not None:
        DefaultsReporter(reader.report).data(model, DEFAULT_DATA)
    return Data(DEFAULT_DATA, span=start)


def data_name(written: syntax.Value, reader: ValueReader) -> tuple[str, dict[str, Any]]:
    """The name of a data set and the options that it stands for: `"hf:NAME"` is `hf path="NAME"`.

    Raises InvalidValueError, after reporting it, if there is no such data set.
    """
    resolved = reader.dereference(written)
    if isinstance(resolved, syntax.String) and resolved.text.startswith(_HUB):
        return "hf", {"path": resolved.text.removeprefix(_HUB)}
    return reader.table_name(written, catalogue.DATASETS, "TD102"), {}


def _recipe(
    statement: syntax.Train | None, reader: ValueReader, start: syntax.Span
) -> tuple[dict[str, Any], syntax.Span, dict[str, ValueLocation]]:
    if statement is None:
        written = " ".join(f"{name}={value}" for name, value in DEFAULT_RECIPE.items() if name != "length")
        reader.report(
            Diagnostic(
                "TD902",
                f"no `train` statement: using the default `train {DEFAULT_RECIPE['length']} {written}`",
                start,
                help="add a `train` statement to choose your own recipe",
            )
        )
        return _canonical_recipe(DEFAULT_RECIPE), start, {}
    written_options = reader.options(statement.options, option_schemas.TRAIN_OPTIONS, "train")
    length = reader.moment(statement.length, "the training length") if statement.length else None
    if statement.length is not None and length is not None and (length.unit == "%" or not length.amount):
        message = f"the training length must be in epochs or steps, and above 0; found `{length}`"
        raise reader.report_bad_value(statement.length, message, help="use e.g. `train 160ep`")
    if statement.length is not None and length is not None:
        check_length(length, statement.length, reader)
    recipe = {recipe_field(name): value for name, value in written_options.items()}
    defaults = TRAIN_DEFAULTS if recipe.get("optimizer", "sgd") == "sgd" else ADAM_DEFAULTS
    if "milestones" in recipe:
        recipe.setdefault("schedule", "milestones")
    if "max_lr" in recipe:
        recipe.setdefault("schedule", "one-cycle")
    if "augment" in recipe:
        recipe["augment"] = [word for word in recipe["augment"] if word != "none"]
    full = {"length": DEFAULT_RECIPE["length"] if length is None else str(length), **defaults, **recipe}
    canonical = _canonical_recipe(full)
    if canonical is not full:
        DefaultsReporter(reader.report).recipe(statement, written_options, canonical)
        in_effect = option_schemas.recipe_settings(Recipe.from_dict(canonical))
        option_effects.report(statement.options, option_schemas.TRAIN_OPTIONS, in_effect, reader)
    return canonical, statement.span, recipe_locations(statement.length, statement.options, reader)


def check_length(length: Moment, written: syntax.Value, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting it, if a training is longer than MAX_LENGTH."""
    most = MAX_LENGTH[length.unit]
    if length.amount > most:
        message = f"a training has at most {most:,}{length.unit}; found {length}"
        raise reader.report_bad_value(written, message, help="train for fewer epochs or steps")


def recipe_locations(
    length: syntax.Value | None, options: Iterable[syntax.Option], reader: ValueReader
) -> dict[str, ValueLocation]:
    """Where the values of a recipe were written, by field; `milestones.0` is the first item of a list."""
    locations = {"length": reader.locate(length)} if length is not None else {}
    for option in options:
        name = recipe_field(option.key.text)
        locations[name] = reader.locate(option.value)
        for number, item in enumerate(reader.items(option.value)):
            locations[f"{name}.{number}"] = reader.locate(item)
    return locations


def location_at_fault(error: ValueError, written: Mapping[str, ValueLocation]) -> ValueLocation | None:
    """The location of the value that an error of a recipe is about: the first field that its message names."""
    return next((written[word] for word in re.findall(r"\w+", str(error)) if word in written), None)


def in_plan_words(error: ValueError) -> str:
    """The message of an error of a recipe, with the options as a plan writes them: `label-smoothing`, not its field."""
    options = {
        recipe_field(option): option for option in {**option_schemas.TRAIN_OPTIONS, **option_schemas.RETRAIN_OPTIONS}
    }
    return re.sub(r"\w+", lambda word: options.get(word[0], word[0]), str(error))


def _canonical_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Drop the fields equal to their defaults, so that equal recipes are spelled alike."""
    try:
        return Recipe.from_dict(recipe).to_dict()
    except ValueError:
        return recipe  # tickdsl.checks reports what is wrong with it


def non_default(options: dict[str, Any], catalogue_options: Any) -> dict[str, Any]:
    """The options that differ from their defaults."""
    return {name: value for name, value in options.items() if value != catalogue_options[name].default}


def _split(statement: syntax.Split | None, reader: ValueReader) -> Split | None:
    if statement is None:
        return None
    reader.options(statement.options, option_schemas.SPLIT_OPTIONS, "split")
    by = reader.word(statement.by, vocabulary.SPLIT_KINDS, "split")
    parts = reader.integer(statement.parts, "the number of parts")
    if parts < 2:
        reader.report(
            Diagnostic(
                "TD503",
                f"`split {by} {parts}`: a split needs at least 2 parts",
                statement.span,
                help=f"use `split {by} 2` (or more)",
            )
        )
        raise InvalidValueError
    return Split(by, parts, span=statement.span)
