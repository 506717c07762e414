"""Resolve `rewind`, in all of its forms, and `perturb`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from tickdsl.lang import option_schemas, syntax, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.meaning import option_effects
from tickdsl.lang.meaning.arm_context import ArmContext
from tickdsl.lang.meaning.default_notes import DefaultsReporter
from tickdsl.lang.meaning.values import InvalidValueError, ValueReader
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import INIT
from tickdsl.plan import model

#: The largest relative norm of noise.
MAX_NOISE = 10


def rewind(statement: syntax.Rewind, context: ArmContext) -> model.Rewind | model.MaskOf:
    """Resolve a `rewind` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    reader = context.reader
    options = reader.options(statement.options, option_schemas.REWIND_OPTIONS, "rewind")
    what = reader.word(statement.what, vocabulary.REWIND_TARGETS, "rewind target")
    if len(options) < len(statement.options):
        raise InvalidValueError
    of, align = _donor(statement.donor, reader), str(options.get("align", ""))
    match = str(options.get("match", "weights"))
    option_effects.report(statement.options, option_schemas.REWIND_OPTIONS, {"match": match}, reader)
    images = int(options.get("images", option_schemas.MATCHING_IMAGES)) if match == "activations" else 0
    if statement.donor is not None and statement.donor.run is not None:
        return _mask_of_run(statement, statement.donor.run, what, options, reader)
    _check_donor(statement, what, of, align, options, reader)
    if what == "mask":
        return model.MaskOf(of, align, images, span=statement.span)
    if statement.to is not None and reader.dereference(statement.to) == syntax.Word("pretrained", span=statement.span):
        return _rewind_to_pretrained(statement, what, model.Rewind(what, INIT, of, False, align, images), context)
    to = reader.moment(statement.to, "the rewind target") if statement.to is not None else INIT
    place = reader.locate(statement.to) if statement.to is not None else None
    current = bool(of) and statement.to is None
    resolved = model.Rewind(what, to, of, current, align, images, to_place=place, span=statement.span)
    DefaultsReporter(reader.report).rewind(statement, resolved)
    return resolved


def perturb(statement: syntax.Perturb, context: ArmContext) -> model.Perturb:
    """Resolve a `perturb` statement. Raises InvalidValueError, after reporting it, if it is wrong."""
    reader = context.reader
    value = reader.dereference(statement.share)
    if not isinstance(value, syntax.Percent):
        message = f"the norm of the noise must be a percentage; found `{format_value(value)}`"
        raise reader.report_bad_value(statement.share, message, help="use e.g. `perturb 5%`")
    if not 0 < value.share <= MAX_NOISE:
        message = f"`{percent(value.share)}` is out of range: the norm of the noise is above 0%, and at most 1000%"
        raise reader.report_error("TD201", message, statement.share, help="use e.g. `perturb 5%`")
    return model.Perturb(value.share, span=statement.span)


def _donor(written: syntax.Donor | None, reader: ValueReader) -> str:
    """The seed that something is taken from, `next` for the next one; empty for none."""
    if written is None or written.run is not None:
        return ""
    return model.NEXT_SEED if written.seed is None else str(reader.integer(written.seed, "a seed", 0))


def _mask_of_run(
    statement: syntax.Rewind, run: syntax.Value, what: str, options: Mapping[str, Any], reader: ValueReader
) -> model.MaskOf:
    """Resolve `rewind mask of run "NAME"`. Raises InvalidValueError, after reporting it, if it is wrong."""
    name = reader.dereference(run)
    if not isinstance(name, syntax.String | syntax.Word):
        message = f"a run is named by its folder; found `{format_value(name)}`"
        raise reader.report_bad_value(run, message, help='use e.g. `of run "runs/lth-20261130-101500-1a2b"`')
    wrong = (
        ("only a mask can be taken from another run", "use `rewind mask of run …`, or start from its ticket")
        if what != "mask"
        else ("a mask belongs to a round, not to a moment of the dense training", "remove `to …`; `level=3` names one")
        if statement.to is not None
        else (f"`{aligning[0]}=` matches the network of another seed, not of a run", "remove it")
        if (aligning := [name for name in ("align", "match") if name in options])
        else None
    )
    if wrong is not None:
        reader.report(Diagnostic("TD544", wrong[0], statement.span, help=wrong[1]))
        raise InvalidValueError
    return model.MaskOf(
        "", run=name.text, arm=str(options.get("arm", "")), level=options.get("level"), seed=options.get("seed"),
        span=statement.span,
    )  # fmt: skip


def _check_donor(
    statement: syntax.Rewind, what: str, of: str, align: str, options: Mapping[str, Any], reader: ValueReader
) -> None:
    """Raise InvalidValueError, after reporting TD544, if what is rewound has no such donor, moment or alignment."""

    def error(message: str, help: str) -> InvalidValueError:
        reader.report(Diagnostic("TD544", message, statement.span, help=help))
        return InvalidValueError()

    if what == "mask" and not of:
        raise error(
            "`rewind mask` needs a seed to take the mask from",
            'add `of seed N`, `of next seed` or `of run "NAME"`',
        )
    if what == "mask" and statement.to is not None:
        raise error("a mask belongs to a round, not to a moment of the dense training", "remove `to …`")
    if what == "lr" and of:
        raise error(
            "`rewind lr` takes nothing from another seed", "remove `of …`, or name what to take: `rewind signs of …`"
        )
    if of_run := [name for name in ("arm", "level", "seed") if name in options]:
        raise error(f"`{of_run[0]}=` names a ticket of a run, and no run is named", 'add `of run "NAME"`, or remove it')
    if align and not of:
        raise error(
            "`align=` matches the network of another seed, and none is named", "add `of next seed`, or remove it"
        )
    if "match" in options and not align:
        raise error(
            "`match=` says how `align=` matches the units of two networks, and nothing is aligned",
            "add `align=dense`, or remove it",
        )


def _rewind_to_pretrained(
    statement: syntax.Rewind, what: str, to_init: model.Rewind, context: ArmContext
) -> model.Rewind:
    """Resolve `to pretrained`: pretrained weights are the initial weights of their network."""
    assert statement.to is not None
    if what == "lr":
        message = "`to pretrained` does not apply to `rewind lr`"
        raise context.reader.report_bad_value(
            statement.to, message, help="use `rewind weights to pretrained` or `rewind lr`"
        )
    if context.settings is not None and not context.settings.model.options.get("weights"):
        message = f"{context.settings.model.name} does not start from pretrained weights"
        raise context.reader.report_bad_value(
            statement.to, message, help="use `model NAME weights=default`, or `rewind weights to init`"
        )
    return attrs.evolve(to_init, span=statement.span)
