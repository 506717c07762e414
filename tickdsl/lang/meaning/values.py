"""Values as written to values as meant: references followed, types and ranges checked, mistakes reported."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label, did_you_mean, join_or
from tickdsl.lang.vocabulary import OptionType
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import Moment
from tickdsl.plugins import PluginError, Registry, check_target, code_allowed
from tickdsl.training.recipes.recipe import SCHEDULES

DiagnosticSink = Callable[[Diagnostic], None]


#: The most values that a range of a sweep or of seeds may have.
MAX_VALUES = 10_000


class InvalidValueError(Exception):
    """A value was wrong and has been reported; what depends on it is left out."""


@attrs.frozen
class ValueLocation:
    """Where a value was written; `readers` are the places that hand it on to where it is used."""

    span: syntax.Span
    readers: tuple[Label, ...] = ()


@attrs.frozen
class ValueReader:
    """Reads values under one binding of the variables; reports what is wrong and raises InvalidValueError."""

    bindings: Mapping[str, syntax.Value]
    report: DiagnosticSink
    #: Sweeps that have no one value here: outside arms.
    swept: frozenset[str] = frozenset()

    def report_error(self, code: str, message: str, value: syntax.Value, **more: Any) -> InvalidValueError:
        """Report what is wrong with a value where it was written; the places that read it come along."""
        place = self.locate(value)
        secondary = (*more.pop("secondary", ()), *place.readers)
        self.report(Diagnostic(code, message, place.span, secondary=secondary, **more))
        return InvalidValueError()

    def locate(self, value: syntax.Value) -> ValueLocation:
        """Where a value was written, and what reads it there."""
        *readers, written = self._reference_chain(value)
        labels = (Label(reader.span, "handed on here" if n else "read here") for n, reader in enumerate(readers))
        return ValueLocation(written.span, tuple(labels))

    def dereference(self, value: syntax.Value) -> syntax.Value:
        """The value that a `$name` stands for."""
        return self._reference_chain(value)[-1]

    def origin_span(self, value: syntax.Value) -> syntax.Span:
        """Where the value that a `$name` stands for was written."""
        return self._reference_chain(value)[-1].span

    def _reference_chain(self, value: syntax.Value) -> list[syntax.Value]:
        """The value as read, what it stands for, and so on to the value as written."""
        if not isinstance(value, syntax.Ref):
            return [value]
        trail: list[syntax.Value] = [value]
        seen: set[str] = set()
        while isinstance(value, syntax.Ref):
            if value.name in seen:
                raise self._report_undefined(f"`${value.name}` is defined by itself", trail[0])
            seen.add(value.name)
            value = self._lookup(value)
            trail.append(value)
        return trail

    def _lookup(self, value: syntax.Ref) -> syntax.Value:
        if value.name in self.swept:
            raise self._report_undefined(
                f"`${value.name}` is swept: it has a value inside arms and their settings only",
                value,
                help="write the value itself, or a `let`",
            )
        if value.name not in self.bindings:
            near = did_you_mean(value.name, self.bindings)
            help = near or f"add `let {value.name} = …` or `sweep {value.name} in […]`"
            raise self._report_undefined(f"`${value.name}` is not defined by `let` or `sweep`", value, help=help)
        return self.bindings[value.name]

    def _report_undefined(self, message: str, value: syntax.Value, help: str | None = None) -> InvalidValueError:
        self.report(Diagnostic("TD106", message, value.span, help=help))
        return InvalidValueError()

    def word(self, value: syntax.Value, known: Collection[str], what: str, code: str = "TD116") -> str:
        """One of the known words."""
        found = self.dereference(value)
        text = found.text if isinstance(found, syntax.Word | syntax.String) else format_value(found)
        if text not in known:
            near = did_you_mean(text, known)
            help = f"one of: {join_or(known, 24 if len(known) <= 24 else 10)}"
            raise self.report_error(code, f"no {what} `{text}`", value, label=near or "", help=help)
        return text

    def table_name(self, value: syntax.Value, known: Registry[Any], code: str, what: str = "") -> str:
        """A word of a table that users add to: built in, registered by a package, or `"package.module:factory"`.

        `what`: what it is called where it is unknown (default: the table's kind).
        """
        found = self.dereference(value)
        name = found.text if isinstance(found, syntax.String) and ":" in found.text else None
        try:
            if name is not None:
                check_target(name)
        except PluginError as error:
            raise self.report_error("TD118", error.message, value, help=error.hint) from None
        if name is not None and not code_allowed():
            raise self.report_error(
                "TD117",
                f'"{name}" is code, and code of a plan runs only where you allow it',
                value,
                help=f"read it, then add --allow-code; or register it as a {known.kind} of an installed package",
            )
        if name is None:
            name = self.word(value, known, what or known.kind, code)
        try:
            known.resolve(name)
        except PluginError as error:
            raise self.report_error("TD118", error.message, value, help=error.hint) from None
        return name

    def integer(self, value: syntax.Value, what: str, least: float | None = None) -> int:
        found = self.dereference(value)
        if not isinstance(found, syntax.Number) or not isinstance(found.value, int):
            raise self.report_bad_value(value, f"{what} must be a whole number; found `{format_value(found)}`")
        if least is not None and found.value < least:
            raise self.report_bad_value(value, f"{what} must be at least {least:g}; found {found.value}")
        return found.value

    def number(self, value: syntax.Value, what: str) -> float:
        found = self.dereference(value)
        if not isinstance(found, syntax.Number):
            raise self.report_bad_value(value, f"{what} must be a number; found `{format_value(found)}`")
        if not math.isfinite(found.value):
            raise self.report_bad_value(value, f"{what} must be a finite number")
        return found.value

    def share(self, value: syntax.Value, what: str) -> Fraction:
        found = self.dereference(value)
        if isinstance(found, syntax.Number):
            if not 0 <= found.value <= 1:
                near = f"did you mean `{format_value(found)}%`?" if 1 < found.value <= 100 else ""
                message = f"`{format_value(found)}` is not a share; write a percentage, or a number in 0..1"
                raise self.report_error("TD201", message, value, label=near)
            found = syntax.Percent(Fraction(str(found.value)), span=found.span)
        if not isinstance(found, syntax.Percent):
            raise self.report_bad_value(value, f"{what} must be a share such as `10%`; found `{format_value(found)}`")
        if not 0 <= found.share <= 1:
            raise self.report_error("TD201", f"{percent(found.share)} is not a share; shares lie in 0%..100%", value)
        return found.share

    def moment(self, value: syntax.Value, what: str) -> Moment:
        """`160ep`, `500it`, `5%` or `init`."""
        found = self.dereference(value)
        match found:
            case syntax.Length(moment):
                return moment
            case syntax.Number(number):
                help = f"a length has a unit: `{number}ep` or `{number}it`"
                raise self.report_bad_value(value, f"{what} must be a moment; found `{format_value(found)}`", help=help)
            case syntax.Percent(share):
                if share > 1:
                    raise self.report_error("TD302", f"{percent(share)} lies after the recipe's end", value)
                return Moment(share * 100, "%")
            case syntax.Word("init"):
                return Moment.parse("init")
        raise self.report_bad_value(
            value,
            f"{what} must be a moment; found `{format_value(found)}`",
            help="write epochs `3ep`, steps `500it`, a share of the recipe `5%`, or `init`",
        )

    def items(self, value: syntax.Value) -> tuple[syntax.Value, ...]:
        """A list's values; a range's numbers; any other value alone."""
        found = self.dereference(value)
        if isinstance(found, syntax.ListValue):
            return found.values
        if isinstance(found, syntax.IntRange):
            if found.last - found.first >= MAX_VALUES:
                raise self.report_bad_value(
                    value, f"`{format_value(found)}` has {found.last - found.first + 1} values; {MAX_VALUES} at most"
                )
            return tuple(syntax.Number(n, span=found.span) for n in range(found.first, found.last + 1))
        return (found,)

    def report_bad_value(self, value: syntax.Value, message: str, **more: Any) -> InvalidValueError:
        """Report a value of the wrong type or outside its range."""
        return self.report_error("TD105", message, value, **more)

    # -- options

    def options(self, written: Iterable[syntax.Option], schema: Mapping[str, OptionType], of: str) -> dict[str, Any]:
        """Options as JSON values; unknown, repeated and ill-typed ones are reported, the others kept."""
        found: dict[str, Any] = {}
        places: dict[str, syntax.Option] = {}
        for option in written:
            key = option.key.text
            if key not in schema:
                help = f"options of `{of}`: {join_or(schema, 40)}" if schema else f"`{of}` takes no options"
                near = did_you_mean(key, schema) or ""
                self.report(Diagnostic("TD104", f"`{of}` has no option `{key}`", option.key.span, near, help=help))
            elif key in places:
                self.report(Diagnostic("TD108", f"`{key}=` is given twice", option.span, help="keep one of them"))
            else:
                places[key] = option
                try:
                    found[key] = self._typed(option.value, schema[key], f"{key}=")
                except InvalidValueError:
                    continue
        return found

    def _typed(self, value: syntax.Value, kind: OptionType, what: str) -> Any:
        match kind.kind:
            case "int":
                return self.integer(value, what, kind.least)
            case "float":
                return self._in_range(value, float(self.number(value, what)), kind, what)
            case "share":
                return float(self.share(value, what))
            case "moment":
                return str(self.moment(value, what))
            case "moments":
                return [str(self.moment(item, what)) for item in self.items(value)]
            case "word":
                return self.word(value, kind.words, f"value for `{what}`:", "TD105")
            case "schedule":
                return self.table_name(value, SCHEDULES, "TD105", f"value for `{what}`:")
            case "words":
                words = f"value for `{what}`:"
                return [self.word(item, kind.words, words, "TD105") for item in self.items(value)]
            case "flag":
                return self.word(value, ("on", "off", "true", "false"), f"value for `{what}`:", "TD105") in (
                    "on",
                    "true",
                )
            case _:
                found = self.dereference(value)
                return found.text if isinstance(found, syntax.String | syntax.Word) else format_value(found)

    def _in_range(self, value: syntax.Value, number: float, kind: OptionType, what: str) -> float:
        if kind.above is not None and not number > kind.above:
            raise self.report_bad_value(value, f"{what} must be above {kind.above:g}; found {number:g}")
        if kind.least is not None and number < kind.least:
            raise self.report_bad_value(value, f"{what} must be at least {kind.least:g}; found {number:g}")
        return number


def report_unsupported(reader: ValueReader, node: Any, what: str, help: str | None = None) -> InvalidValueError:
    """A part of the language that this version reads but does not carry out: a value, or another node."""
    message = f"{what} is part of the language but this version cannot carry it out"
    if isinstance(node, syntax.Value):
        return reader.report_error("TD006", message, node, help=help)
    reader.report(Diagnostic("TD006", message, node.span, help=help))
    return InvalidValueError()
