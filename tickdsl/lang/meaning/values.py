"""Read the values of a plan: follow `$name` references, check types and ranges, report errors."""

from __future__ import annotations

import contextlib
import keyword
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.limit import MAX_PER_LINE
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.lang.option_schemas import OptionType
from tickdsl.lang.synonyms import SAID_ELSEWHERE
from tickdsl.lang.writing.literals import format_value, percent
from tickdsl.moments import Moment
from tickdsl.plugins import Call, CallError, PluginError, Registry, call_name, check_target, code_allowed
from tickdsl.training.catalogue.options import format_number, requirement_missed_by
from tickdsl.training.recipes.augmentations import AUGMENTATIONS, UNFIT_TRANSFORMS
from tickdsl.training.recipes.losses import LOSSES
from tickdsl.training.recipes.recipe import OPTIMISERS, SCHEDULES

N = TypeVar("N", int, float)
DiagnosticSink = Callable[[Diagnostic], None]


#: The largest number of values in a range of a sweep or of seeds.
MAX_VALUES = 10_000
#: The largest number of references that a finding shows: the first and the last ones of a longer chain.
_MAX_LABELS = 8


class InvalidValueError(Exception):
    """A value is wrong, and the error has been reported."""


@attrs.frozen
class ValueLocation:
    """Where a value was written; `references` label the uses of the variables that pass it on."""

    span: syntax.Span
    references: tuple[Label, ...] = ()


@attrs.frozen
class ValueReader:
    """Reads values, given the variables' values.

    Its methods raise InvalidValueError, after reporting it, if a value is wrong.
    """

    bindings: Mapping[str, syntax.Value]
    report: DiagnosticSink
    #: Sweeps, outside arms, where they have no single value.
    swept: frozenset[str] = frozenset()
    #: Values of references that were followed before, so that chains of lets cost one step per let.
    _followed: dict[str, syntax.Value] = attrs.field(factory=dict, init=False, eq=False, repr=False)
    #: Unknown words for which a known one was looked for.
    _unknown: list[str] = attrs.field(factory=list, init=False, eq=False, repr=False)

    def report_error(self, code: str, message: str, value: syntax.Value, **more: Any) -> InvalidValueError:
        """Report an error at the place where a value was written, with the references to it."""
        place = self.locate(value)
        secondary = (*more.pop("secondary", ()), *place.references)
        self.report(Diagnostic(code, message, place.span, secondary=secondary, **more))
        return InvalidValueError()

    def locate(self, value: syntax.Value) -> ValueLocation:
        """Where a value was written, and the references to it."""
        *references, written = self._reference_chain(value)
        labels = [Label(ref.span, "passed on here" if n else "used here") for n, ref in enumerate(references)]
        if len(labels) > _MAX_LABELS:
            labels = [*labels[: _MAX_LABELS // 2], *labels[-_MAX_LABELS // 2 :]]
        return ValueLocation(written.span, tuple(labels))

    def dereference(self, value: syntax.Value) -> syntax.Value:
        """The value that a `$name` refers to; any other value itself."""
        names: dict[str, syntax.Ref] = {}
        while isinstance(value, syntax.Ref) and value.name not in self._followed:
            if value.name in names:
                first = next(iter(names.values()))
                raise self._report_undefined(f"`${value.name}` is defined in terms of itself", first)
            names[value.name] = value
            value = self._lookup(value)
        written = self._followed[value.name] if isinstance(value, syntax.Ref) else value
        self._followed.update(dict.fromkeys(names, written))
        return written

    def origin_span(self, value: syntax.Value) -> syntax.Span:
        """Where the value that a `$name` refers to was written."""
        return self.dereference(value).span

    def _reference_chain(self, value: syntax.Value) -> list[syntax.Value]:
        """A value and what it refers to, step by step, ending with the value as written."""
        self.dereference(value)
        trail = [value]
        while isinstance(value, syntax.Ref):
            value = self._lookup(value)
            trail.append(value)
        return trail

    def _lookup(self, value: syntax.Ref) -> syntax.Value:
        if value.name in self.swept:
            raise self._report_undefined(
                f"`${value.name}` is a sweep, which has a value only inside arms and their settings",
                value,
                help="use the value itself, or a `let`",
            )
        if value.name not in self.bindings:
            suggestion = self._suggest(value.name, self.bindings)
            help = suggestion or f"add `let {value.name} = …` or `sweep {value.name} in […]`"
            raise self._report_undefined(f"`${value.name}` is not defined", value, help=help)
        return self.bindings[value.name]

    def _report_undefined(self, message: str, value: syntax.Value, help: str | None = None) -> InvalidValueError:
        self.report(Diagnostic("TD106", message, value.span, help=help))
        return InvalidValueError()

    def _suggest(self, word: str, known: Iterable[str]) -> str | None:
        """``did you mean `x`?``, for as many words as are shown of a line: comparing with all known ones is slow."""
        self._unknown.append(word)
        return did_you_mean(word, known) if len(self._unknown) <= MAX_PER_LINE else None

    def word(self, value: syntax.Value, known: Collection[str], kind: str, code: str = "TD116") -> str:
        """Read one of the `known` words; `kind` names what they are, such as "metric"."""
        resolved = self.dereference(value)
        text = resolved.text if isinstance(resolved, syntax.Word | syntax.String) else format_value(resolved)
        if text not in known:
            suggestion = self._suggest(text, known)
            help = f"use {join_or(known, 24 if len(known) <= 24 else 10)}"
            raise self.report_error(code, f"unknown {kind} `{text}`", value, label=suggestion or "", help=help)
        return text

    def table_name(self, value: syntax.Value, known: Registry[Any], code: str, kind: str = "") -> str:
        """Read a name of a registry: built in, registered by a package, or `"package.module:factory"`.

        `kind` names what it is in messages (default: the registry's kind).
        """
        resolved = self.dereference(value)
        name = resolved.text if isinstance(resolved, syntax.String) and ":" in resolved.text else None
        try:
            if name is not None:
                check_target(name)
        except PluginError as error:
            raise self.report_error("TD118", error.message, value, help=error.hint) from None
        if name is not None and not code_allowed():
            raise self.report_error(
                "TD117",
                f'"{name}" runs Python code, which needs --allow-code',
                value,
                help=f"review the code and add --allow-code, or register it as a {known.kind} in an installed package",
            )
        if name is None:
            name = self.word(value, known, kind or known.kind, code)
        try:
            known.resolve(name)
        except PluginError as error:
            raise self.report_error("TD118", error.message, value, help=error.hint) from None
        return name

    def call(self, value: syntax.Value, known: Registry[Any], option: str) -> str:
        """Read a name of a registry, with options of its own: `focal`, or `"focal(gamma=1)"`.

        `option` is what it is the value of. Returns the canonical text.
        """
        resolved = self.dereference(value)
        if not isinstance(resolved, syntax.String) or "(" not in resolved.text:
            return self.table_name(value, known, "TD105", f"value for {option}:")
        try:
            call = Call.parse(resolved.text)
        except CallError as error:
            help = f'write e.g. {option.strip("`")}"NAME(option=1)"'
            raise self.report_bad_value(value, f"value for {option}: {error}", help=help) from None
        self.table_name(attrs.evolve(resolved, text=call.name), known, "TD105", f"value for {option}:")
        return str(call)

    def _weights(self, value: syntax.Value, kind: OptionType, option: str) -> str | list[float]:
        """Read `balanced`, or a list of numbers above 0; `none` is an empty list."""
        if not isinstance(self.dereference(value), syntax.ListValue):
            word = self.word(value, kind.words, f"value for {option}:", "TD105")
            return [] if word == "none" else word
        weights = []
        for item in self.items(value):
            weight = float(self.number(item, f"a weight of {option}"))
            if weight <= 0:
                raise self.report_bad_value(item, f"a weight of {option} must be above 0; found {weight:g}")
            weights.append(weight)
        return weights

    def integer(self, value: syntax.Value, subject: str, least: float | None = None) -> int:
        """Read a whole number of at least `least`; `subject` begins the error message."""
        resolved = self.dereference(value)
        if not isinstance(resolved, syntax.Number) or not isinstance(resolved.value, int):
            raise self.report_bad_value(value, f"{subject} must be a whole number; found `{format_value(resolved)}`")
        if least is not None and resolved.value < least:
            raise self.report_bad_value(value, f"{subject} must be at least {least:g}; found {resolved.value}")
        return resolved.value

    def number(self, value: syntax.Value, subject: str) -> float:
        """Read a finite number; `subject` begins the error message."""
        resolved = self.dereference(value)
        if not isinstance(resolved, syntax.Number):
            raise self.report_bad_value(value, f"{subject} must be a number; found `{format_value(resolved)}`")
        if not math.isfinite(resolved.value):
            raise self.report_bad_value(value, f"{subject} must be a finite number")
        return resolved.value

    def share(self, value: syntax.Value, subject: str) -> Fraction:
        """Read a percentage, or a number from 0 to 1; `subject` begins the error message."""
        resolved = self.dereference(value)
        if isinstance(resolved, syntax.Number):
            if not 0 <= resolved.value <= 1:
                suggestion = f"did you mean `{format_value(resolved)}%`?" if 1 < resolved.value <= 100 else ""
                message = f"`{format_value(resolved)}` is out of range: use a percentage, or a number from 0 to 1"
                raise self.report_error("TD201", message, value, label=suggestion)
            resolved = syntax.Percent(Fraction(str(resolved.value)), span=resolved.span)
        if not isinstance(resolved, syntax.Percent):
            message = f"{subject} must be a percentage such as `10%`; found `{format_value(resolved)}`"
            raise self.report_bad_value(value, message)
        if not 0 <= resolved.share <= 1:
            message = f"`{percent(resolved.share)}` is out of range: use a percentage from 0% to 100%"
            raise self.report_error("TD201", message, value)
        return resolved.share

    def points(self, value: syntax.Value, subject: str) -> Fraction:
        """Read a difference in percentage points, written as a percentage; `subject` begins the error message."""
        resolved = self.dereference(value)
        if isinstance(resolved, syntax.Number) and resolved.value:
            number = format_value(resolved)
            other = f", or `{100 * resolved.value:g}%` for that share" if 0 < resolved.value < 1 else ""
            noun = "point" if resolved.value == 1 else "points"
            message = f"{subject} must be a percentage; found `{number}`"
            help = None if resolved.value < 0 else f"use `{number}%` for {number} {noun}{other}"
            raise self.report_bad_value(value, message, help=help)
        return self.share(value, subject)

    def moment(self, value: syntax.Value, subject: str) -> Moment:
        """Read a moment of a training: `160ep`, `500it`, `5%` or `init`; `subject` begins the error message."""
        resolved = self.dereference(value)
        match resolved:
            case syntax.Length(moment):
                return moment
            case syntax.Number(number):
                message = f"{subject} needs a unit; found `{format_value(resolved)}`"
                help = None if number < 0 else f"use `{number}ep` or `{number}it` (epochs or steps)"
                raise self.report_bad_value(value, message, help=help)
            case syntax.Percent(share):
                if share > 1:
                    raise self.report_error("TD302", f"`{percent(share)}` is after the end of the recipe", value)
                return Moment(share * 100, "%")
            case syntax.Word("init"):
                return Moment.parse("init")
        raise self.report_bad_value(
            value,
            f"{subject} must be a point in training; found `{format_value(resolved)}`",
            help="use epochs (`3ep`), steps (`500it`), a percentage of the recipe (`5%`) or `init`",
        )

    def items(self, value: syntax.Value) -> tuple[syntax.Value, ...]:
        """Read the items of a list, the numbers of a range, or any other value as a single item."""
        resolved = self.dereference(value)
        if isinstance(resolved, syntax.ListValue):
            return resolved.values
        if isinstance(resolved, syntax.IntRange):
            count = resolved.last - resolved.first + 1
            if count > MAX_VALUES:
                message = f"`{format_value(resolved)}` has {count:,} values; the limit is {MAX_VALUES:,}"
                raise self.report_bad_value(value, message)
            return tuple(syntax.Number(n, span=resolved.span) for n in range(resolved.first, resolved.last + 1))
        return (resolved,)

    def report_bad_value(self, value: syntax.Value, message: str, **more: Any) -> InvalidValueError:
        """Report TD105: a value of the wrong type or out of range."""
        return self.report_error("TD105", message, value, **more)

    # -- options

    def options(
        self,
        written: Iterable[syntax.Option],
        schema: Mapping[str, OptionType],
        owner: str,
        correct: Callable[[syntax.Option], str | None] = lambda option: None,
    ) -> dict[str, Any]:
        """Read options as JSON values; unknown, duplicate and invalid ones are reported and left out.

        `owner` is what the options belong to, such as "train"; `correct` tells what to write instead of an unknown one.
        """
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for option in written:
            key = option.key.text
            if key not in schema:
                help = f"options of `{owner}`: {', '.join(schema)}" if schema else f"`{owner}` takes no options"
                elsewhere = SAID_ELSEWHERE.get(key.replace("-", "_").lower()) or correct(option)
                help, suggestion = (elsewhere, "") if elsewhere else (help, self._suggest(key, schema) or "")
                message = f"`{owner}` has no option `{key}`"
                self.report(Diagnostic("TD104", message, option.key.span, suggestion, help=help))
            elif key in seen:
                self.report(Diagnostic("TD108", f"`{key}=` is set twice", option.span, help="remove one of them"))
            else:
                seen.add(key)
                with contextlib.suppress(InvalidValueError):
                    values[key] = self._typed(option.value, schema[key], f"`{key}=`")
        return values

    def _typed(self, value: syntax.Value, kind: OptionType, option: str) -> Any:
        words_kind = f"value for {option}:"
        match kind.kind:
            case "int":
                return self._in_range(value, self.integer(value, option), kind, option)
            case "float":
                return self._in_range(value, float(self.number(value, option)), kind, option)
            case "share":
                return self._share_in_range(value, kind, option)
            case "points":
                return float(self.points(value, option))
            case "moment":
                return str(self.moment(value, option))
            case "moments":
                return [str(self.moment(item, option)) for item in self.items(value)]
            case "word":
                return self.word(value, kind.words, words_kind, "TD105")
            case "schedule":
                return self.table_name(value, SCHEDULES, "TD105", words_kind)
            case "loss":
                return self.call(value, LOSSES, option)
            case "optimiser":
                return self.call(value, OPTIMISERS, option)
            case "weights":
                return self._weights(value, kind, option)
            case "words":
                return self._words(value, lambda item: self.word(item, kind.words, words_kind, "TD105"), option)
            case "names":
                return self._names(value, option)
            case "augmentations":
                return self._words(value, lambda item: self._augmentation(item, option), option)
            case "blocks":
                return self._blocks(value, kind, option)
            case "flag":
                return self.word(value, ("on", "off", "true", "false"), words_kind, "TD105") in ("on", "true")
            case _:
                resolved = self.dereference(value)
                return resolved.text if isinstance(resolved, syntax.String | syntax.Word) else format_value(resolved)

    def _augmentation(self, item: syntax.Value, option: str) -> str:
        """Read `none`, or an augmentation, with options or without."""
        resolved = self.dereference(item)
        text = resolved.text if isinstance(resolved, syntax.Word | syntax.String) else ""
        if text == "none":
            return text
        if call_name(text) in UNFIT_TRANSFORMS:
            reason, help = UNFIT_TRANSFORMS[call_name(text)]
            raise self.report_error("TD469", f"{option.strip('`')}{call_name(text)}: it {reason}", item, help=help)
        return self.call(item, AUGMENTATIONS, option)

    def _names(self, value: syntax.Value, option: str) -> list[str]:
        """Read a list of names, each at most once, of which each can be the keyword of a call in Python."""
        names: list[str] = []
        for item in self.items(value):
            resolved = self.dereference(item)
            name = resolved.text if isinstance(resolved, syntax.Word | syntax.String) else format_value(resolved)
            if not name.isidentifier() or keyword.iskeyword(name):
                message = f"{option} lists `{name}`, which is no name of a parameter in Python"
                raise self.report_error("TD444", message, item, help="use letters, digits and `_`, such as `input_ids`")
            if name in names:
                raise self.report_error(
                    "TD444", f"{option} lists `{name}` twice", item, help="remove one of them; each input has its name"
                )
            names.append(name)
        return names

    def _words(self, value: syntax.Value, read: Callable[[syntax.Value], str], option: str) -> list[str]:
        """Read a list of words, each at most once, and `none` only alone."""
        words: list[str] = []
        for item in self.items(value):
            word = read(item)
            if word in words:
                raise self.report_bad_value(item, f"{option} lists `{word}` twice", help="remove one of them")
            words.append(word)
            if "none" in words and len(words) > 1:
                message = f"{option} lists `none` beside other words"
                raise self.report_bad_value(item, message, help=f"remove `none`, or write only {option.strip('`')}none")
        return words

    def _blocks(self, value: syntax.Value, kind: OptionType, option: str) -> str | list[str]:
        """Read one of the option's words, or a list of patterns of blocks."""
        items = [self.dereference(item) for item in self.items(value)]
        for item in items:
            if not isinstance(item, syntax.Word | syntax.String):
                found = f"{option} must be {join_or(kind.words)}, or a list of blocks; found `{format_value(item)}`"
                raise self.report_bad_value(value, found, help="write blocks as `[layer1.2, layer2.2]`")
        texts = [item.text for item in items if isinstance(item, syntax.Word | syntax.String)]
        if not isinstance(self.dereference(value), syntax.ListValue):
            return self.word(value, kind.words, f"value for {option}:", "TD105") if "." not in texts[0] else texts
        return texts

    def _share_in_range(self, value: syntax.Value, kind: OptionType, option: str) -> float:
        share = self.share(value, option)
        for is_allowed, bound in ((share > (kind.above or 0), kind.above), (share < (kind.below or 0), kind.below)):
            if bound is not None and not is_allowed:
                relation = "above" if bound == kind.above else "below"
                raise self.report_error("TD201", f"{option} must be {relation} {percent(bound)}", value)
        return float(share)

    def _in_range(self, value: syntax.Value, number: N, kind: OptionType, option: str) -> N:
        if kind.above is not None and not number > kind.above:
            raise self.report_bad_value(value, f"{option} must be above {kind.above:g}; found {number:g}")
        if requirement := requirement_missed_by(number, kind.least, kind.most, kind.among):
            raise self.report_bad_value(value, f"{option} must be {requirement}; found {format_number(number)}")
        return number


def report_unsupported(reader: ValueReader, node: Any, subject: str, help: str | None = None) -> InvalidValueError:
    """Report TD006 for a value or statement that the language has and this version does not support."""
    message = f"{subject} is not supported yet"
    if isinstance(node, syntax.Value):
        return reader.report_error("TD006", message, node, help=help)
    reader.report(Diagnostic("TD006", message, node.span, help=help))
    return InvalidValueError()
