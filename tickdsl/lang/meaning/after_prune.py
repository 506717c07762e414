"""Resolve the statements after a `prune`: `overlap`, `recalibrate`, `rewind`, `retrain`, `distill` and `transfer`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tickdsl.lang import option_schemas, registries, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning import coarsening, option_effects, rewinds, settings, sparse_training
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.option_schemas import option_schema as options_of
from tickdsl.lang.option_schemas import recipe_field
from tickdsl.lang.writing.literals import format_value
from tickdsl.moments import Moment
from tickdsl.plan import model
from tickdsl.plugins import code_allowed, installed
from tickdsl.plurals import plural
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import retraining_recipe

#: The metrics that a condition compares with a number or with a percentage.
_PERCENTAGES = ("params", "flops", vocabulary.DROP)
#: Defaults of `distill` (Hinton et al. 2015 use temperatures of this order).
DEFAULT_TEMPERATURE, DEFAULT_WEIGHT = 4.0, 0.9


def tail(statement: syntax.Statement, context: ArmContext) -> model.Tail:
    """Resolve a statement of a round. Raises InvalidValueError, after reporting it, if the statement is wrong."""
    match statement:
        case syntax.Overlap():
            return _overlap(statement, context)
        case syntax.Refill():
            return coarsening.refill(statement, context)
        case syntax.Regroup():
            return coarsening.regroup(statement, context)
        case syntax.Union():
            return _union(statement, context)
        case syntax.Recalibrate():
            return model.Recalibrate(span=statement.span)
        case syntax.Rewind():
            return rewinds.rewind(statement, context)
        case syntax.Perturb():
            return rewinds.perturb(statement, context)
        case syntax.Retrain():
            return _retrain(statement, context)
        case syntax.Distill():
            return _distill(statement, context)
        case syntax.Grow():
            return sparse_training.grow(statement, context)
        case syntax.Evolve():
            return sparse_training.evolve(statement, context)
    raise TypeError(f"{type(statement).__name__} cannot follow a prune")


def check_order(earlier: Iterable[model.Tail], added: model.Tail, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting it, if a statement may not follow the earlier ones of its round."""
    earlier = list(earlier)
    # A `grow` runs the training before it, so what follows sets another one.
    grown = [index for index, other in enumerate(earlier) if isinstance(other, model.Grow)]
    if grown:
        only_grown = isinstance(added, model.Grow) and grown[-1] == len(earlier) - 1
        earlier = earlier[grown[-1] + (0 if only_grown else 1) :]
    for other in earlier:
        if type(other) is type(added) and not _builds_on(other, added):
            message = (
                f"this round has two rewinds: the second overrides `rewind {other.what}`"
                if isinstance(other, model.Rewind)
                else f"this round has two `{_keyword(other)}` statements"
            )
            raise _conflict_error(message, other, added, reader)
        if isinstance(other, model.Perturb) and _replaces_weights(added):
            message = f"`{_keyword(added)}` replaces the weights that `perturb` has changed"
            raise _conflict_error(message, other, added, reader, "put `perturb` after it, or remove one of them")
        match other, added:
            case model.Rewind(what="lr"), model.Retrain(schedule=schedule):
                message = f"`rewind lr` has no effect before `retrain {schedule}`, which starts its own schedule"
                help = "remove one; to start the new schedule later, put `rewind lr to …` after `retrain`"
                raise _conflict_error(message, other, added, reader, help)
            case model.Rewind(what=what), model.Retrain(fresh=True):
                message = f"`rewind {what}` has no effect before `retrain {added.schedule}`, which resets the weights"
                raise _conflict_error(message, other, added, reader)
            case model.Retrain(), model.Rewind(what=what) if what != "lr":
                message = f"`retrain` has no effect before `rewind {what}`, which also restores the recipe"
                raise _conflict_error(
                    message, other, added, reader, f"put `rewind {what}` before `retrain`, or remove one of them"
                )
    if isinstance(added, model.Overlap) and earlier:
        help = "swap the two statements"
        reader.report(
            Diagnostic("TD007", f"`overlap` must come before `{_keyword(earlier[0])}`", added.span, help=help)
        )
        raise InvalidValueError
    if isinstance(added, model.Refill | model.Regroup):
        _check_coarsening(earlier, added, reader)
    if isinstance(added, model.Union) and any(not isinstance(other, model.Overlap) for other in earlier):
        (first, *_) = (other for other in earlier if not isinstance(other, model.Overlap))
        message = f"`union` must come before `{_keyword(first)}`: it changes what was just pruned"
        reader.report(Diagnostic("TD007", message, added.span, help="put it directly after the `prune`"))
        raise InvalidValueError
    if isinstance(added, model.MaskOf) and any(not isinstance(other, model.Overlap) for other in earlier):
        (first, *_) = (other for other in earlier if not isinstance(other, model.Overlap))
        message = f"`rewind mask` must come before `{_keyword(first)}`, which applies to the network with that mask"
        reader.report(Diagnostic("TD007", message, added.span, help="put it directly after the `prune`"))
        raise InvalidValueError
    structural = (model.Overlap, model.Union, model.MaskOf, model.Refill, model.Regroup)
    if isinstance(added, model.Recalibrate) and any(not isinstance(other, structural) for other in earlier):
        (first, *_) = (other for other in earlier if not isinstance(other, structural))
        message = f"`recalibrate` must come before `{_keyword(first)}`: it is the pruned network that it recalibrates"
        reader.report(Diagnostic("TD007", message, added.span, help="put it directly after the `prune`"))
        raise InvalidValueError
    evolving = [other for other in earlier if isinstance(other, model.Evolve)]
    if evolving and not isinstance(added, model.Distill | model.Grow):
        message = f"`evolve` must come after `{_keyword(added)}`: it changes the training that is set last"
        reader.report(Diagnostic("TD007", message, added.span, help="swap the two statements"))
        raise InvalidValueError
    if not isinstance(added, model.Distill | model.Grow) and any(isinstance(other, model.Distill) for other in earlier):
        message = f"`distill` must come after `{_keyword(added)}`"
        reader.report(Diagnostic("TD007", message, added.span, help="swap the two statements"))
        raise InvalidValueError


def _check_coarsening(earlier: Iterable[model.Tail], added: model.Refill | model.Regroup, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting it, if a `refill` or `regroup` does not come straight after the mask."""
    for other in earlier:
        if isinstance(other, model.Refill | model.Regroup):
            message = f"`{_keyword(added)}` has nothing to do after `{_keyword(other)}`, which leaves no single weights"
            raise _conflict_error(message, other, added, reader)
        if not isinstance(other, model.Overlap | model.Union | model.MaskOf):
            message = f"`{_keyword(added)}` must come before `{_keyword(other)}`: it changes what the prune has left"
            reader.report(Diagnostic("TD007", message, added.span, help="put it directly after the `prune`"))
            raise InvalidValueError


def require_training(tail: model.Tail, where: str, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting it, for a `distill` or `evolve` that has no training to apply to."""
    if isinstance(tail, model.Distill | model.Evolve):
        message = f"`{_keyword(tail)}` needs a training {where}"
        help = "add `rewind lr`, `rewind weights` or `retrain …` before it"
        reader.report(Diagnostic("TD007", message, tail.span, help=help))
        raise InvalidValueError


def _builds_on(other: model.Tail, added: model.Tail) -> bool:
    """Whether a rewind keeps something that an earlier one of its round has taken: signs, or magnitudes."""
    match other, added:
        case model.Rewind(what=before), model.Rewind(what="signs" | "magnitudes" as what):
            return before not in ("lr", what)
    return False


def _replaces_weights(tail: model.Tail) -> bool:
    """Whether a statement takes other weights than the current ones."""
    match tail:
        case model.Rewind(what=what):
            return what in ("weights", "magnitudes")
        case model.Retrain(fresh=fresh):
            return fresh
    return False


def _keyword(tail: model.Tail) -> str:
    return "rewind mask" if isinstance(tail, model.MaskOf) else type(tail).__name__.lower()


def _conflict_error(
    message: str, other: model.Tail, added: model.Tail, reader: ValueReader, help: str = "remove one of them"
) -> InvalidValueError:
    reader.report(Diagnostic("TD304", message, added.span, secondary=(Label(other.span, "the first one"),), help=help))
    return InvalidValueError()


def _overlap(statement: syntax.Overlap, context: ArmContext) -> model.Overlap:
    reader, split = context.reader, context.split
    if split is None:
        reader.report(
            Diagnostic(
                "TD501",
                "`overlap` needs a `split`",
                statement.span,
                help="add `split classes 2` (or more) to the arm",
            )
        )
        raise InvalidValueError
    at_least = (
        split.parts if statement.at_least is None else reader.integer(statement.at_least, "the minimum number of parts")
    )
    parts = split.parts if statement.parts is None else reader.integer(statement.parts, "the number of parts")
    if not 1 <= at_least <= parts or parts != split.parts:
        reader.report(
            Diagnostic(
                "TD502",
                f"`{at_least} of {parts}` does not fit the split, which has {plural(split.parts, 'part')}",
                statement.span,
                secondary=(Label(split.span, "split here"),),
                help=f"use `overlap K of {split.parts}`, with K from 1 to {split.parts}",
            )
        )
        raise InvalidValueError
    return model.Overlap(at_least, span=statement.span)


def _retrain(statement: syntax.Retrain, context: ArmContext) -> model.Retrain:
    reader = context.reader
    schedule = reader.table_name(statement.schedule, registries.SCHEDULES, "TD116")
    allowed = option_schemas.retrain_options(schedule, registries.SCHEDULES[schedule].options)
    written_options = reader.options(statement.options, allowed, f"retrain {schedule}")
    length = reader.moment(statement.length, "the training length") if statement.length is not None else None
    if len(written_options) < len(statement.options) or context.settings is None:
        raise InvalidValueError
    try:
        base = Recipe.from_dict(context.settings.recipe)
    except ValueError:
        raise InvalidValueError from None  # tickdsl.checks reports what is wrong with the recipe
    if length is not None and length.unit == "%":
        length = Moment(base.length.amount * length.amount / 100, base.length.unit)
    if length is not None and not length.amount:
        assert statement.length is not None
        raise reader.report_bad_value(
            statement.length, f"the training length must be above 0; found {length}", help="use e.g. `40ep`"
        )
    if length is not None and statement.length is not None:
        settings.check_length(length, statement.length, reader)
    if schedule == "fine-tune":
        _check_fine_tuning_rate(statement, written_options, base, reader)
    options = {recipe_field(name): value for name, value in written_options.items()}
    if "augment" in options:
        options["augment"] = [word for word in options["augment"] if word != "none"]
    try:
        recipe = retraining_recipe(base, schedule, length, options)
    except ValueError as error:
        place = settings.location_at_fault(
            error, settings.recipe_locations(statement.length, statement.options, reader)
        )
        message = f"invalid `retrain {schedule}`: {settings.in_plan_words(error)}"
        reader.report(
            Diagnostic("TD305", message, place.span, secondary=place.references)
            if place
            else Diagnostic("TD305", message, statement.span)
        )
        raise InvalidValueError from None
    resolved = model.Retrain(schedule, recipe.to_dict(), schedule == "scratch", given=options, span=statement.span)
    DefaultsReporter(reader.report).retraining(statement, resolved)
    in_effect = option_schemas.recipe_settings(recipe, retrain=schedule)
    option_effects.report(statement.options, allowed, in_effect, reader)
    return resolved


def _check_fine_tuning_rate(
    statement: syntax.Retrain, written_options: dict[str, Any], base: Recipe, reader: ValueReader
) -> None:
    if "lr" not in written_options and not base.final_lr:
        reader.report(
            Diagnostic(
                "TD307",
                f"`retrain fine-tune` uses the recipe's final learning rate, which is 0 with schedule={base.schedule}",
                statement.span,
                help=f"set a learning rate, e.g. `lr={base.peak_lr / 100:g}`",
            )
        )
        raise InvalidValueError
    if written_options.get("lr", 0) >= base.peak_lr:
        option = next(option for option in statement.options if option.key.text == "lr")
        message = f"`lr={written_options['lr']:g}` is high for fine-tuning: the recipe peaks at `lr={base.peak_lr:g}`"
        help = f"use a lower rate, e.g. `lr={base.peak_lr / 100:g}`, or `rewind lr`"
        reader.report_error("TD308", message, option.value, help=help)


def _union(statement: syntax.Union, context: ArmContext) -> model.Union:
    names: list[str] = []
    for value in statement.arms:
        name = context.arm_name(value, "union of", context.arms)
        if name == context.arm or name in names:
            message = (
                f"arm `{name}` has its own structure anyway: `union of` names other arms"
                if name == context.arm
                else f"arm `{name}` is named twice"
            )
            raise context.reader.report_error("TD459", message, value, help="remove it")
        names.append(name)
    return model.Union(tuple(names), span=statement.span)


def _distill(statement: syntax.Distill, context: ArmContext) -> model.Distill:
    reader = context.reader
    written_options = reader.options(statement.options, option_schemas.DISTILL_OPTIONS, "distill")
    teacher = context.arm_name(statement.teacher, "distill from", ["dense", *context.arms])
    if teacher == context.arm:
        help = "distil from `dense` or another arm"
        raise reader.report_error(
            "TD510", f"arm `{context.arm}` cannot be its own teacher", statement.teacher, help=help
        )
    if len(written_options) < len(statement.options):
        raise InvalidValueError
    until = Moment.parse(written_options["until"]) if "until" in written_options else None
    temperature, weight = (
        written_options.get("temperature", DEFAULT_TEMPERATURE),
        written_options.get("weight", DEFAULT_WEIGHT),
    )
    values = {"temperature": temperature, "weight": weight}
    DefaultsReporter(reader.report).options(statement, values, option_schemas.DISTILL_OPTIONS)
    written = next((option.span for option in statement.options if option.key.text == "temperature"), None)
    return model.Distill(teacher, temperature, weight, until, span=statement.span, temperature_span=written)


def transfer(statement: syntax.Transfer, context: ArmContext) -> model.Transfer:
    """Resolve a `transfer` statement. Raises InvalidValueError, after reporting it, if the statement is wrong."""
    reader = context.reader
    name, place = settings.data_name(statement.data, reader)
    catalogue_options = catalogue.DATASETS[name].options
    both = {**options_of(catalogue_options), **option_schemas.TRANSFER_OPTIONS}
    written_options = reader.options(statement.options, both, f"transfer to {name}")
    head = written_options.pop("head", "reset")
    options = {**settings.non_default(written_options, catalogue_options), **place}
    data = model.Data(name, options, span=statement.data.span)
    tails: list[model.Rewind | model.Retrain] = []
    for inner in statement.body:
        if not isinstance(inner, syntax.Retrain | syntax.Rewind):
            message = f"`{inner.span.text.split()[0]}` cannot be used inside a `transfer`"
            reader.report(Diagnostic("TD007", message, inner.span, help="use `retrain …` or `rewind lr …` there"))
            continue
        added = tail(inner, context)
        assert isinstance(added, model.Rewind | model.Retrain)
        check_order(tails, added, reader)
        if isinstance(added, model.Rewind) and added.what == "weights":
            message = "`rewind weights` cannot be used inside a `transfer`: the ticket keeps its weights"
            reader.report(Diagnostic("TD007", message, added.span, help="move it before the `transfer`"))
            continue
        tails.append(added)
    _check_head(statement, data, head, context)
    DefaultsReporter(reader.report).options(statement, {"head": head}, option_schemas.TRANSFER_OPTIONS)
    return model.Transfer(data, head, tuple(tails), span=statement.span)


def _check_head(statement: syntax.Transfer, data: model.Data, head: str, context: ArmContext) -> None:
    if head != "keep" or context.settings is None:
        return
    source = context.settings.data
    before = catalogue.known_size(source.name, "classes", source.options)
    after = catalogue.known_size(data.name, "classes", data.options)
    if before is not None and after is not None and before != after:
        option = next(option for option in statement.options if option.key.text == "head")
        raise context.reader.report_error(
            "TD412",
            f"the head has {before} outputs (for {source.name}), but {data.name} has {after} classes",
            option.value,
            help="use `head=reset`",
        )


def condition(written: syntax.Condition, reader: ValueReader) -> model.Condition:
    """Resolve a condition of `stop when` or `until`, such as `accuracy < 95%`."""
    metric = _condition_metric(written.metric, reader)
    share = vocabulary.is_percentage(metric)
    bound = reader.dereference(written.bound)
    if share and isinstance(bound, syntax.Number) and bound.value == 1:
        message = f"`{metric} {written.comparison} 1` is ambiguous"
        raise reader.report_bad_value(written.bound, message, help="use `1%` or `100%`")
    # The unit of a metric of a plug-in is known once its code is read.
    either = metric in _PERCENTAGES or metric not in vocabulary.CONDITION_METRICS
    percentage = either and isinstance(bound, syntax.Percent)
    if isinstance(bound, syntax.Percent) and not (share or percentage):
        message = f"{metric} must be a number; found `{format_value(bound)}`"
        help = f"{metric} is no share: write the value itself, or use `drop`, which is relative to the dense network"
        raise reader.report_bad_value(written.bound, message, help=help)
    limit = float(reader.share(written.bound, metric)) if share or percentage else reader.number(written.bound, metric)
    return model.Condition(metric, written.comparison, limit, percentage, span=written.span)


def _condition_metric(value: syntax.Value, reader: ValueReader) -> str:
    """Read the metric of a condition; where tasks of plug-ins can be used, it may be one that only they have."""
    resolved = reader.dereference(value)
    if isinstance(resolved, syntax.Word | syntax.String) and (code_allowed() or installed("task")):
        return resolved.text
    return reader.word(value, vocabulary.CONDITION_METRICS, "metric", "TD114")
