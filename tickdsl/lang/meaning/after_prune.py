"""What follows a prune: which weights the next training starts from, by which recipe, with which teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label, did_you_mean, join_or
from tickdsl.lang.meaning import settings
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.option_types import option_types as options_of
from tickdsl.lang.option_types import recipe_field
from tickdsl.moments import INIT, Moment
from tickdsl.plan import model
from tickdsl.training import catalogue
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.recipes.retraining import retraining_recipe

#: What distillation takes where nothing is said (Hinton 2015 has a temperature of this order).
DEFAULT_TEMPERATURE, DEFAULT_WEIGHT = 4.0, 0.9


@attrs.frozen
class ArmContext:
    """What a pipeline stands in: the settings in force (None where they could not be read), its arm, all arms."""

    scope: settings.ArmSettings | None
    arm: str
    arms: Sequence[str]
    reader: ValueReader

    @property
    def split(self) -> model.Split | None:
        return self.scope.split if self.scope else None

    def arm_name(self, value: syntax.Value, what: str, known: Sequence[str]) -> str:
        """An arm, or another known word."""
        found = self.reader.dereference(value)
        name: Any = getattr(found, "text", None)
        if name not in known:
            near = did_you_mean(str(name), known) or ""
            message = f"`{what} {name}`: there is no such arm"
            raise self.reader.report_error("TD511", message, value, label=near, help=f"one of: {join_or(known)}")
        return str(name)


def tail(statement: syntax.Statement, context: ArmContext) -> model.Tail:
    """The statement as part of a round. Raises InvalidValueError where it is wrong, and says why."""
    match statement:
        case syntax.Overlap():
            return _overlap(statement, context)
        case syntax.Rewind():
            return _rewind(statement, context)
        case syntax.Retrain():
            return _retrain(statement, context)
        case syntax.Distill():
            return _distill(statement, context)
    raise TypeError(f"{type(statement).__name__} is no tail")


def check_order(earlier: Iterable[model.Tail], added: model.Tail, reader: ValueReader) -> None:
    """Whether a statement may follow the others of its round. Raises InvalidValueError where not, and says why."""
    earlier = list(earlier)
    for other in earlier:
        if type(other) is type(added):
            message = (
                f"two rewinds in one round: the second wins over `rewind {other.what}`"
                if isinstance(other, model.Rewind)
                else f"two `{_keyword(other)}` in one round"
            )
            raise _conflict_error(message, other, added, reader)
        match other, added:
            case model.Rewind(what="lr"), model.Retrain(schedule=schedule):
                message = f"`retrain {schedule}` begins a schedule of its own; the `rewind lr` before it has no effect"
                raise _conflict_error(
                    message, other, added, reader, "keep one; `rewind lr to …` behind it begins it later"
                )
            case (model.Rewind(what="weights"), model.Retrain(fresh=True)) | (model.Retrain(), model.Rewind("weights")):
                message = "the weights are chosen twice" if isinstance(added, model.Retrain) else (
                    "`rewind weights` takes the recipe with it: the `retrain` before it has no effect"
                )  # fmt: skip
                raise _conflict_error(
                    message, other, added, reader, "put `rewind weights` before `retrain`, or drop one"
                )
    if isinstance(added, model.Overlap) and earlier:
        help = "swap the two statements"
        reader.report(Diagnostic("TD007", f"`overlap` comes before `{_keyword(earlier[0])}`", added.span, help=help))
        raise InvalidValueError
    if not isinstance(added, model.Distill) and any(isinstance(other, model.Distill) for other in earlier):
        message = f"`distill` adds to what is trained next: it comes behind `{_keyword(added)}`"
        reader.report(Diagnostic("TD007", message, added.span, help="swap the two statements"))
        raise InvalidValueError


def _keyword(tail: model.Tail) -> str:
    return type(tail).__name__.lower()


def _conflict_error(
    message: str, other: model.Tail, added: model.Tail, reader: ValueReader, help: str = "keep one of them"
) -> InvalidValueError:
    reader.report(Diagnostic("TD304", message, added.span, secondary=(Label(other.span, "the first one"),), help=help))
    return InvalidValueError()


def _rewind(statement: syntax.Rewind, context: ArmContext) -> model.Rewind:
    reader = context.reader
    reader.options(statement.options, {}, "rewind")
    what = reader.word(statement.what, vocabulary.REWIND_TARGETS, "rewind")
    if statement.to is not None and reader.dereference(statement.to) == syntax.Word("pretrained", span=statement.span):
        return _rewind_to_pretrained(statement, what, context)
    to = reader.moment(statement.to, "a rewind's end") if statement.to is not None else INIT
    place = reader.locate(statement.to) if statement.to is not None else None
    resolved = model.Rewind(what, to, to_place=place, span=statement.span)
    DefaultsReporter(reader.report).rewind(statement, resolved)
    return resolved


def _rewind_to_pretrained(statement: syntax.Rewind, what: str, context: ArmContext) -> model.Rewind:
    """Weights from elsewhere are those that the network begins with."""
    assert statement.to is not None
    if what != "weights":
        message = "`pretrained` says which weights; the rate has no such moment"
        raise context.reader.report_bad_value(
            statement.to, message, help="write `rewind weights to pretrained`, or `rewind lr`"
        )
    if context.scope is not None and not context.scope.model.options.get("weights"):
        message = f"{context.scope.model.name} has no weights from elsewhere to rewind to"
        raise context.reader.report_bad_value(
            statement.to, message, help="write `model NAME weights=default`, or `to init`"
        )
    return model.Rewind(what, INIT, span=statement.span)


def _overlap(statement: syntax.Overlap, context: ArmContext) -> model.Overlap:
    reader, split = context.reader, context.split
    if split is None:
        reader.report(
            Diagnostic(
                "TD501",
                "`overlap` needs parts to overlap",
                statement.span,
                help="add `split classes 2` (or more) to the arm",
            )
        )
        raise InvalidValueError
    at_least = split.parts if statement.at_least is None else reader.integer(statement.at_least, "the parts to keep")
    of = split.parts if statement.parts is None else reader.integer(statement.parts, "the number of parts")
    if not 1 <= at_least <= of or of != split.parts:
        reader.report(
            Diagnostic(
                "TD502",
                f"`{at_least} of {of}`: the split has {split.parts} parts",
                statement.span,
                secondary=(Label(split.span, "the split"),),
                help=f"write `overlap 1 of {split.parts}` to `overlap {split.parts} of {split.parts}`",
            )
        )
        raise InvalidValueError
    return model.Overlap(at_least, span=statement.span)


def _retrain(statement: syntax.Retrain, context: ArmContext) -> model.Retrain:
    reader, scope = context.reader, context.scope
    schedule = reader.table_name(statement.schedule, vocabulary.SCHEDULES, "TD116")
    allowed = {name: vocabulary.RETRAIN_OPTIONS[name] for name in vocabulary.SCHEDULES[schedule].options}
    given = reader.options(statement.options, allowed, f"retrain {schedule}")
    length = reader.moment(statement.length, "the training's length") if statement.length is not None else None
    if len(given) < len(statement.options) or scope is None:
        raise InvalidValueError
    try:
        base = Recipe.from_dict(scope.recipe)
    except ValueError:
        raise InvalidValueError from None  # `check` says what is wrong with the recipe
    if length is not None and length.unit == "%":
        length = Moment(base.length.amount * length.amount / 100, base.length.unit)
    if length is not None and not length.amount:
        assert statement.length is not None
        raise reader.report_bad_value(statement.length, f"a retraining of {length} has no length", help="write `40ep`")
    if schedule == "fine-tune":
        _check_fine_tuning_rate(statement, given, base, reader)
    options = {recipe_field(name): value for name, value in given.items()}
    if "augment" in options:
        options["augment"] = [word for word in options["augment"] if word != "none"]
    try:
        recipe = retraining_recipe(base, schedule, length, options)
    except ValueError as error:
        place = settings.location_at_fault(
            error, settings.recipe_locations(statement.length, statement.options, reader)
        )
        message = f"this retraining cannot be carried out: {error}"
        reader.report(
            Diagnostic("TD305", message, place.span, secondary=place.readers)
            if place
            else Diagnostic("TD305", message, statement.span)
        )
        raise InvalidValueError from None
    resolved = model.Retrain(schedule, recipe.to_dict(), schedule == "scratch", given=options, span=statement.span)
    DefaultsReporter(reader.report).retraining(statement, resolved)
    return resolved


def _check_fine_tuning_rate(
    statement: syntax.Retrain, given: dict[str, Any], base: Recipe, reader: ValueReader
) -> None:
    if "lr" not in given and not base.final_lr:
        reader.report(
            Diagnostic(
                "TD307",
                f"`retrain fine-tune` goes on at the recipe's last rate, and schedule={base.schedule} ends at 0",
                statement.span,
                help=f"give one: `lr={base.peak_lr / 100:g}`",
            )
        )
        raise InvalidValueError
    if given.get("lr", 0) >= base.peak_lr:
        option = next(option for option in statement.options if option.key.text == "lr")
        message = f"fine-tuning at lr={given['lr']:g}: the recipe goes up to lr={base.peak_lr:g}"
        help = f"take less, e.g. `lr={base.peak_lr / 100:g}`, or write `rewind lr`"
        reader.report_error("TD308", message, option.value, help=help)


def _distill(statement: syntax.Distill, context: ArmContext) -> model.Distill:
    reader = context.reader
    given = reader.options(statement.options, vocabulary.DISTILL_OPTIONS, "distill")
    teacher = context.arm_name(statement.teacher, "distill from", ["dense", *context.arms])
    if teacher == context.arm:
        help = "distil from `dense`, or from another arm"
        raise reader.report_error(
            "TD510", f"arm `{context.arm}` cannot be its own teacher", statement.teacher, help=help
        )
    if len(given) < len(statement.options):
        raise InvalidValueError
    until = Moment.parse(given["until"]) if "until" in given else None
    temperature, weight = given.get("temperature", DEFAULT_TEMPERATURE), given.get("weight", DEFAULT_WEIGHT)
    values = {"temperature": temperature, "weight": weight}
    DefaultsReporter(reader.report).options(statement, values, vocabulary.DISTILL_OPTIONS)
    return model.Distill(teacher, temperature, weight, until, span=statement.span)


def transfer(statement: syntax.Transfer, context: ArmContext) -> model.Transfer:
    """Where levels are judged instead. Raises InvalidValueError where the statement is wrong, and says why."""
    reader = context.reader
    name = reader.table_name(statement.data, catalogue.DATASETS, "TD102")
    catalogue_options = catalogue.DATASETS[name].options
    both = {**options_of(catalogue_options), **vocabulary.TRANSFER_OPTIONS}
    given = reader.options(statement.options, both, f"transfer to {name}")
    head = given.pop("head", "reset")
    data = model.Data(name, settings.non_default(given, catalogue_options), span=statement.data.span)
    found: list[model.Rewind | model.Retrain] = []
    for inner in statement.body:
        if not isinstance(inner, syntax.Retrain | syntax.Rewind):
            message = (
                f"`{inner.span.text.split()[0]}` cannot stand inside a transfer: it says how the ticket is trained"
            )
            reader.report(Diagnostic("TD007", message, inner.span, help="write `retrain …` or `rewind lr …` there"))
            continue
        read = tail(inner, context)
        assert isinstance(read, model.Rewind | model.Retrain)
        check_order(found, read, reader)
        if isinstance(read, model.Rewind) and read.what == "weights":
            message = "the weights are those that the ticket has when it is carried over"
            reader.report(Diagnostic("TD007", message, read.span, help="rewind before the transfer"))
            continue
        found.append(read)
    _check_head(statement, data, head, context)
    DefaultsReporter(reader.report).options(statement, {"head": head}, vocabulary.TRANSFER_OPTIONS)
    return model.Transfer(data, head, tuple(found), span=statement.span)


def _check_head(statement: syntax.Transfer, data: model.Data, head: str, context: ArmContext) -> None:
    if head != "keep" or context.scope is None:
        return
    source = context.scope.data
    before = catalogue.known_size(source.name, "classes", source.options)
    after = catalogue.known_size(data.name, "classes", data.options)
    if before is not None and after is not None and before != after:
        option = next(option for option in statement.options if option.key.text == "head")
        raise context.reader.report_error(
            "TD412",
            f"the head has {before} outputs for {source.name}; {data.name} has {after} classes",
            option.value,
            help="write `head=reset`",
        )


def condition(written: syntax.Condition, reader: ValueReader) -> model.Condition:
    """`accuracy < 95%`, of `stop when` or `until`."""
    metric = reader.word(written.metric, vocabulary.CONDITION_METRICS, "metric to watch", "TD114")
    share = metric in ("accuracy", "sparsity")
    bound = float(reader.share(written.bound, metric)) if share else reader.number(written.bound, metric)
    return model.Condition(metric, written.comparison, bound, span=written.span)
