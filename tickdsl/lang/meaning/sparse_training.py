"""Resolve what changes masks or weights in a training: gradual and soft prunes, penalties, `evolve`; and `grow`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.lang import option_schemas, registries, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.suggestions import join_or
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import Moment
from tickdsl.plan import model
from tickdsl.plan.sparse_training import penalty_length
from tickdsl.training.recipes.recipe import Recipe

#: What a training with a growing penalty does not take from the recipe: what shapes its rate, another penalty, its end.
_NOT_UNDER_A_PENALTY = frozenset(
    {
        "length", "schedule", "milestones", "gamma", "warmup", "warmup_start", "rise", "rise_from", "min_lr", "max_lr",
        "pct_start", "div", "final_div", "bn_l1", "patience", "monitor",
    }
)  # fmt: skip
#: Defaults of `evolve`: those of RigL (Evci et al. 2020).
DEFAULT_GROWTH, DEFAULT_EVERY, DEFAULT_UNTIL = "gradient", Moment.parse("100it"), Moment.parse("75%")
_UNITS_BY_KIND = {
    "gradual": ("weights",),
    "penalty": ("weights", "filters", "neurons", "heads", "head-dims"),
    "zeroing": ("filters", "neurons"),
}


def gradual(statement: syntax.Prune, options: Mapping[str, Any], reader: ValueReader) -> model.Gradual | None:
    """The schedule of a gradual prune; None for another. Raises InvalidValueError, after reporting it, if wrong."""
    written = statement.gradual
    if written is None:
        return None
    start, end, every = (
        reader.moment(value, f"`{word}`")
        for word, value in (("from", written.start), ("to", written.end), ("every", written.every))
    )
    if not every.amount:
        raise reader.report_error("TD451", "`every` must be above 0", written.every, help="use e.g. `every 100it`")
    return model.Gradual(start, end, every, options.get("curve", "cubic"), span=written.span)


def via(
    statement: syntax.Prune, options: Mapping[str, Any], context: ArmContext
) -> model.Penalty | model.Zeroing | None:
    """What happens to the chosen units before a prune removes them. Raises InvalidValueError if it is wrong."""
    if statement.via is None:
        return None
    reader = context.reader
    kind = reader.word(statement.via, option_schemas.VIAS, "way to prune")
    needed = {"penalty": ("step", "every", "to", "hold"), "zeroing": ("every",)}[kind]
    missing = [name for name in needed if name not in options]
    if missing:
        example = {"penalty": "step=1e-4 every=5it to=1 hold=40000it", "zeroing": "every=1ep"}[kind]
        message = f"`via {kind}` needs {', '.join(f'`{name}=`' for name in missing)}"
        raise reader.report_error("TD450", message, statement.via, help=f"e.g. `via {kind} {example}`")
    every = Moment.parse(options["every"])
    if not every.amount:
        raise _report_option(statement, "every", "TD451", "`every=` must be above 0", "use e.g. `every=1ep`", reader)
    if kind == "zeroing":
        return model.Zeroing(every)
    hold = Moment.parse(options["hold"])
    for name, moment in (("every", every), ("hold", hold)):
        if moment.unit == "%":
            message = f"`{name}={moment}` is a share of a training whose length is not set"
            raise _report_option(statement, name, "TD451", message, "use epochs or steps", reader)
    if every.unit != hold.unit:
        message = f"`every={every}` and `hold={hold}` use different units"
        raise _report_option(statement, "hold", "TD451", message, "use the same unit: epochs or steps", reader)
    if options["to"] < options["step"]:
        message = f"the penalty cannot grow: `to={options['to']:g}` is below `step={options['step']:g}`"
        raise _report_option(statement, "to", "TD451", message, "use a smaller `step=`", reader)
    if context.settings is None:
        raise InvalidValueError
    penalty = model.Penalty(options["step"], every, options["to"], hold, power=options.get("power", 1))
    try:
        recipe = penalty_recipe(penalty, context.settings.recipe, options.get("lr"), options.get("batch"))
    except ValueError:
        raise InvalidValueError from None  # tickdsl.checks reports what is wrong with the recipe
    return attrs.evolve(penalty, recipe=recipe)


def penalty_recipe(
    penalty: model.Penalty, base: model.Options, lr: float | None = None, batch: int | None = None
) -> model.Options:
    """The recipe of a training with a growing penalty: it ends once the whole penalty was held for its time.

    The rate is constant: `lr`, or else the highest of the arm's recipe.
    """
    recipe = Recipe.from_dict(base)
    fields: dict[str, Any] = {
        field.name: getattr(recipe, field.name)
        for field in attrs.fields(Recipe)
        if field.name not in _NOT_UNDER_A_PENALTY
    }
    fields["lr"] = recipe.peak_lr if lr is None else lr
    fields["batch"] = recipe.batch if batch is None else batch
    fields["accumulate"] = min(recipe.accumulate, fields["batch"])
    return Recipe(length=penalty_length(penalty), **fields).to_dict()


def _report_option(
    statement: syntax.Prune, name: str, code: str, message: str, help: str, reader: ValueReader
) -> InvalidValueError:
    (option,) = (option for option in statement.options if option.key.text == name)
    return reader.report_error(code, message, option.value, help=help)


def check_clauses(statement: syntax.Prune, resolved: model.Prune, reader: ValueReader) -> None:
    """Raise InvalidValueError, after reporting it, if a clause or option does not fit the way in which this prunes."""
    kind = _kind(statement, resolved)
    owned = {name for names in option_schemas.PRUNE_OPTION_OWNERS.values() for name in names}
    allowed = option_schemas.PRUNE_OPTION_OWNERS.get(kind, ())
    wrong = False
    for option in statement.options:
        name = option.key.text
        if name in owned and name not in allowed:
            owners = [owner for owner, names in option_schemas.PRUNE_OPTION_OWNERS.items() if name in names]
            forms = join_or([_FORMS[owner] for owner in owners])
            message = f"`{name}=` has no effect without {forms}" if not kind else f"`{name}=` belongs to {forms}"
            reader.report(Diagnostic("TD450", message, option.span, help="remove it, or add what it belongs to"))
            wrong = True
    if kind:
        wrong = any([_check_kind(kind, statement, resolved, reader), wrong])
    if resolved.by == "movement" and kind != "gradual" and statement.by is not None:
        reader.report_error(
            "TD454",
            "`by movement` ranks by what the training did to every weight, so it has to be recorded while it trains",
            statement.by,
            help="prune gradually, e.g. `from 10% to 70% every 100it`; for the change since init, use `by delta`",
        )
        wrong = True
    if wrong:
        raise InvalidValueError


_FORMS = {"gradual": "`from … to … every …`", "penalty": "`via penalty`", "zeroing": "`via zeroing`"}


def _kind(statement: syntax.Prune, resolved: model.Prune) -> str:
    if resolved.gradual is not None:
        return "gradual"
    match resolved.via:
        case model.Penalty():
            return "penalty"
        case model.Zeroing():
            return "zeroing"
    return ""


def _check_kind(kind: str, statement: syntax.Prune, resolved: model.Prune, reader: ValueReader) -> bool:
    """Report what does not fit a prune of a kind; whether anything did not."""
    form, wrong = _FORMS[kind], False

    def report(span: syntax.Span, message: str, help: str) -> None:
        nonlocal wrong
        reader.report(Diagnostic("TD450", message, span, help=help))
        wrong = True

    if resolved.unit not in _UNITS_BY_KIND[kind]:
        report(
            statement.unit.span,
            f"{form} cannot prune {resolved.unit}, only {join_or(_UNITS_BY_KIND[kind])}",
            "change the unit, or prune after the training",
        )
    if kind == "gradual" and statement.via is not None:
        report(statement.via.span, f"{form} and `via` cannot be combined", "remove one of them")
    if isinstance(resolved.amount, model.Matching):
        report(statement.amount.span, f"{form} cannot match another arm", "give an amount, such as `to 80%`")
    if statement.until is not None:
        report(statement.until.span, f"{form} and `until` cannot be combined", "give the final amount: `to 90%`")
    if kind in ("gradual", "zeroing"):
        if statement.at is not None:
            report(
                statement.at.span, f"{form} prunes during the training and cannot be combined with `at`", "remove `at`"
            )
        if resolved.times != 1 and statement.times is not None:
            report(
                statement.times.span,
                f"{form} makes one level and cannot be combined with `x N`",
                "remove `x N`; to repeat it with what follows, use `cycle N { … }`",
            )
    return wrong


def evolve(statement: syntax.Evolve, context: ArmContext) -> model.Evolve:
    """Resolve an `evolve` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    reader = context.reader
    _require_weights(statement.unit, "evolve", reader)
    if statement.by is not None:
        name = reader.table_name(statement.by, registries.CRITERIA, "TD103")
        if name != "magnitude":
            message = f"`evolve` cannot rank by {name}: the weights that leave are those with the smallest magnitude"
            raise reader.report_error("TD450", message, statement.by, help="use `by magnitude`, or leave it out")
    share = reader.share(statement.share, "the share of weights to exchange")
    if not 0 < share < 1:
        message = f"`{percent(share)}` is out of range: it must be above 0% and below 100%"
        raise reader.report_error("TD201", message, statement.share)
    options = reader.options(statement.options, option_schemas.EVOLVE_OPTIONS, "evolve")
    if len(options) < len(statement.options):
        raise InvalidValueError
    if context.split is not None:
        reader.report(
            Diagnostic(
                "TD455",
                "`evolve` cannot be combined with `split`: the weights of the parts would move apart",
                statement.span,
                secondary=(Label(context.split.span, "split here"),),
                help="remove one of them",
            )
        )
        raise InvalidValueError
    every = Moment.parse(options["every"]) if "every" in options else DEFAULT_EVERY
    until = Moment.parse(options["until"]) if "until" in options else DEFAULT_UNTIL
    for name, moment in (("every", every), ("until", until)):
        if not moment.amount:
            (option,) = (option for option in statement.options if option.key.text == name)
            raise reader.report_error("TD451", f"`{name}=` must be above 0", option.value, help="use e.g. `100it`")
    grow, fan_in = options.get("grow", DEFAULT_GROWTH), options.get("fan-in", "free")
    values = {"grow": grow, "every": every, "until": until}
    DefaultsReporter(reader.report).options(statement, values, option_schemas.EVOLVE_OPTIONS)
    return model.Evolve(share, grow, every, until, fan_in, span=statement.span)


def grow(statement: syntax.Grow, context: ArmContext) -> model.Grow:
    """Resolve a `grow` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    reader = context.reader
    _require_weights(statement.unit, "grow", reader)
    by = "magnitude"
    if statement.by is not None:
        by = reader.word(statement.by, vocabulary.GROWTH_CRITERIA, "criterion", "TD103")
    amount: Any = None
    if statement.amount is not None:
        value = reader.dereference(statement.amount)
        match value:
            case syntax.Percent(share):
                if not 0 < share < 1:
                    message = f"`{percent(share)}` is out of range: use a share above 0% and below 100%, or `all`"
                    raise reader.report_error("TD201", message, statement.amount)
                amount = share
            case syntax.Number(int(number)) if number > 0:
                amount = number
            case _:
                message = f"an amount must be a percentage, a count or `all`; found `{format_value(value)}`"
                raise reader.report_error("TD105", message, statement.amount)
    return model.Grow("weights", amount, by, pictures=by == "gradient", span=statement.span)


def _require_weights(value: syntax.Value, keyword: str, reader: ValueReader) -> None:
    unit = reader.word(value, vocabulary.UNITS, "unit")
    if unit != "weights":
        message = f"`{keyword}` works on weights, not on {unit}"
        raise reader.report_error("TD450", message, value, help=f"use `{keyword} weights …`")
