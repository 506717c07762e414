"""The abstract syntax tree (AST) of plans.

Every node has a `span`, its range in the source. Spans are ignored when nodes are compared, so two trees are equal if
they mean the same.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import attrs

from tickdsl.moments import Moment


@attrs.frozen(eq=False)
class Source:
    """The text of a plan, and its path as shown in messages."""

    path: str
    text: str

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [0, *(i + 1 for i, character in enumerate(self.text) if character == "\n")]

    def line_and_column(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset, both counted from 1."""
        line = bisect.bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """The text of a line (counted from 1), without its newline."""
        start = self._starts[number - 1]
        end = self._starts[number] - 1 if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r")


@attrs.frozen
class Span:
    """The range `start:end` of a source, end excluded."""

    source: Source
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.line_and_column(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.line_and_column(self.start)[1]

    @property
    def end_position(self) -> tuple[int, int]:
        """The line and column just after the span."""
        return self.source.line_and_column(self.end)

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}:{self.column}"


def _span() -> Span:
    return attrs.field(eq=False, repr=False, kw_only=True)  # type: ignore[no-any-return]


# -- values


@attrs.frozen
class Number:
    value: int | float
    span: Span = _span()


@attrs.frozen
class Percent:
    """`20%` is Fraction(1, 5)."""

    share: Fraction
    span: Span = _span()


@attrs.frozen
class Length:
    """`160ep`, `500it`: a duration of training, or a moment in it."""

    moment: Moment
    span: Span = _span()


@attrs.frozen
class Word:
    """An unquoted name or keyword."""

    text: str
    span: Span = _span()


@attrs.frozen
class String:
    """A quoted string: a pattern, a path, a plug-in, or a name with special characters."""

    text: str
    span: Span = _span()


@attrs.frozen
class Ref:
    """`$name`, a reference to a `let` or `sweep`."""

    name: str
    span: Span = _span()


@attrs.frozen
class ListValue:
    """`[a, b]`."""

    values: tuple[Value, ...]
    span: Span = _span()


@attrs.frozen
class IntRange:
    """`1..5`, both ends included."""

    first: int
    last: int
    span: Span = _span()


Value = Number | Percent | Length | Word | String | Ref | ListValue | IntRange


@attrs.frozen
class Option:
    """`key=value`."""

    key: Word
    value: Value
    span: Span = _span()


@attrs.frozen
class Condition:
    """`accuracy < 90%`."""

    metric: Word
    comparison: str
    bound: Value
    span: Span = _span()


# -- definitions and settings


@attrs.frozen
class Version:
    number: int
    span: Span = _span()


@attrs.frozen
class Let:
    name: Word
    value: Value
    span: Span = _span()


@attrs.frozen
class Include:
    path: String
    span: Span = _span()


@attrs.frozen
class Seeds:
    value: Value
    span: Span = _span()


@attrs.frozen
class Sweep:
    name: Word
    values: Value
    span: Span = _span()


@attrs.frozen
class Model:
    name: Value
    data: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Data:
    name: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Split:
    by: Value
    parts: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Train:
    length: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


# -- pipeline


@attrs.frozen
class RoundAmount:
    """`20%`, `20% of original`, `3`, `[60%, 30%, 10%]`: the amount that one round prunes."""

    value: Value
    base: Value | None
    span: Span = _span()


@attrs.frozen
class TargetAmount:
    """`to 95%`: the final share of units pruned."""

    value: Value
    span: Span = _span()


@attrs.frozen
class Matching:
    """`matching ARM`: as much as that arm prunes."""

    arm: Value
    span: Span = _span()


Amount = RoundAmount | TargetAmount | Matching


@attrs.frozen
class Prune:
    unit: Value
    scope: Value | None
    amount: Amount
    times: Value | None
    until: Value | Condition | None
    by: Value | None
    at: Value | None
    within: tuple[Value, ...]
    protect: tuple[Value, ...]
    repeated: tuple[Value | Condition, ...] = ()
    span: Span = _span()


@attrs.frozen
class Overlap:
    at_least: Value | None
    parts: Value | None
    span: Span = _span()


@attrs.frozen
class Rewind:
    what: Value
    to: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Retrain:
    schedule: Value
    length: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Distill:
    teacher: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Transfer:
    data: Value
    options: tuple[Option, ...]
    body: tuple[Statement, ...]
    span: Span = _span()


@attrs.frozen
class Cycle:
    times: Value
    body: tuple[Statement, ...]
    span: Span = _span()


# -- questions


@attrs.frozen
class Arm:
    name: Word
    body: tuple[Statement, ...]
    span: Span = _span()


@attrs.frozen
class Compare:
    names: tuple[Value, ...]
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Report:
    metrics: tuple[Value, ...]
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Stop:
    condition: Condition
    span: Span = _span()


Statement = (
    Version | Let | Include | Seeds | Sweep
    | Model | Data | Split | Train
    | Prune | Overlap | Rewind | Retrain | Distill | Transfer | Cycle
    | Arm | Compare | Report | Stop
)  # fmt: skip
#: The statements of the pipeline, which act in the order written.
PIPELINE = (Prune, Overlap, Rewind, Retrain, Distill, Transfer, Cycle)
#: The settings: in any order, each once per scope; an arm overrides the settings of the file.
SETTINGS = (Model, Data, Split, Train)


@attrs.frozen
class File:
    """A plan file: its statements, in order, and the ranges of its unparsed text."""

    statements: tuple[Statement, ...]
    source: Source = attrs.field(eq=False, repr=False)
    unparsed: tuple[Span, ...] = attrs.field(default=(), eq=False, repr=False)


def of_type(statements: Iterable[Statement], *kinds: type) -> list[Any]:
    """The statements that are instances of `kinds`."""
    return [statement for statement in statements if isinstance(statement, kinds)]


def walk(node: object) -> Iterator[object]:
    """The node and all its descendants, in source order."""
    yield node
    if isinstance(node, tuple):
        for child in node:
            yield from walk(child)
    elif attrs.has(kind := type(node)) and not isinstance(node, Span | Source | Moment):
        for field in attrs.fields(kind):
            if field.name not in ("span", "source", "unparsed"):
                value = getattr(node, field.name)
                if isinstance(value, tuple):
                    for child in value:
                        yield from walk(child)
                elif attrs.has(type(value)):
                    yield from walk(value)
