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
from tickdsl.printable import printable_line


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
        return f"{printable_line(self.source.path)}:{self.line}:{self.column}"


def _span() -> Span:
    return attrs.field(eq=False, repr=False, kw_only=True)  # type: ignore[no-any-return]


# -- values


@attrs.frozen
class Number:
    """A number."""

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


@attrs.frozen
class Rate:
    """`"conv*": 10%`: the share of the layers that a pattern matches."""

    layer: Value
    share: Value
    span: Span = _span()


@attrs.frozen
class Rates:
    """`["conv*": 10%, fc: 20%]`."""

    rates: tuple[Rate, ...]
    span: Span = _span()


Value = Number | Percent | Length | Word | String | Ref | ListValue | IntRange | Rates


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
    """`plan 1`."""

    number: int
    span: Span = _span()


@attrs.frozen
class Let:
    """`let NAME = VALUE`."""

    name: Word
    value: Value
    span: Span = _span()


@attrs.frozen
class Include:
    """`include "x.plan"`."""

    path: String
    span: Span = _span()


@attrs.frozen
class Seeds:
    """`seeds 5`, `seeds 1..5`, `seeds [1, 7]`."""

    value: Value
    span: Span = _span()


@attrs.frozen
class Sweep:
    """`sweep NAME in [a, b]`."""

    name: Word
    values: Value
    span: Span = _span()


@attrs.frozen
class Model:
    """`model NAME [on DATA] [key=value …]`."""

    name: Value
    data: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Data:
    """`data NAME [key=value …]`."""

    name: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Split:
    """`split classes|samples K`."""

    by: Value
    parts: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Train:
    """`train [LENGTH] [key=value …]`."""

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
    """`to 95%`: the final share of units pruned; `to 50% of flops`: of what the dense network costs."""

    value: Value
    cost: Value | None = None
    span: Span = _span()


@attrs.frozen
class Matching:
    """`matching ARM`: as much as that arm prunes."""

    arm: Value
    span: Span = _span()


Amount = RoundAmount | TargetAmount | Matching


@attrs.frozen
class Gradual:
    """`from MOMENT to MOMENT every MOMENT`."""

    start: Value
    end: Value
    every: Value
    span: Span = _span()


@attrs.frozen
class Prune:
    """`prune UNIT [SCOPE] AMOUNT` with its clauses.

    times: `x N`. within: the layers after `in`. protect: those after `except`. gradual: `from … to … every …`. options:
    `order=` and others. repeated: values of clauses given twice.
    """

    unit: Value
    scope: Value | None
    amount: Amount
    times: Value | None
    until: Value | Condition | None
    by: Value | None
    at: Value | None
    within: tuple[Value, ...]
    protect: tuple[Value, ...]
    options: tuple[Option, ...] = ()
    gradual: Gradual | None = None
    via: Word | None = None
    repeated: tuple[Value | Condition | Gradual, ...] = ()
    span: Span = _span()


@attrs.frozen
class Overlap:
    """`overlap [k of K]`."""

    at_least: Value | None
    parts: Value | None
    span: Span = _span()


@attrs.frozen
class Refill:
    """`refill UNIT [by CRITERION] [key=value …]`."""

    unit: Value
    by: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Regroup:
    """`regroup [key=value …]`."""

    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Union:
    """`union of ARM, …`."""

    arms: tuple[Value, ...]
    span: Span = _span()


@attrs.frozen
class Recalibrate:
    """`recalibrate`."""

    span: Span = _span()


@attrs.frozen
class Grow:
    """`grow UNIT AMOUNT|all [by CRITERION]`. amount: None for `all`."""

    unit: Value
    amount: Value | None
    by: Value | None
    span: Span = _span()


@attrs.frozen
class Donor:
    """`of seed N`, `of next seed`, `of run "NAME"`. seed: None for the next one. run: None for a seed."""

    seed: Value | None
    run: Value | None = None
    span: Span = _span()


@attrs.frozen
class Rewind:
    """`rewind WHAT [of seed N] [to MOMENT] [key=value …]`."""

    what: Value
    donor: Donor | None
    to: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Perturb:
    """`perturb 5%`."""

    share: Value
    span: Span = _span()


@attrs.frozen
class Retrain:
    """`retrain SCHEDULE [LENGTH] [key=value …]`."""

    schedule: Value
    length: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Distill:
    """`distill from TEACHER [key=value …]`."""

    teacher: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Evolve:
    """`evolve UNIT SHARE [by CRITERION] [key=value …]`."""

    unit: Value
    share: Value
    by: Value | None
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Elastic:
    """`stretch to MODEL [order=append] [key=value …]`, `squeeze to MODEL [drop=last] [key=value …]`."""

    verb: str
    model: Value
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Transfer:
    """`transfer to DATA [key=value …] [{ … }]`."""

    data: Value
    options: tuple[Option, ...]
    body: tuple[Statement, ...]
    span: Span = _span()


@attrs.frozen
class Cycle:
    """`cycle N { … }`."""

    times: Value
    body: tuple[Statement, ...]
    span: Span = _span()


# -- questions


@attrs.frozen
class Arm:
    """`arm NAME { … }`."""

    name: Word
    body: tuple[Statement, ...]
    span: Span = _span()


@attrs.frozen
class Compare:
    """`compare NAME, … [key=value …]`."""

    names: tuple[Value, ...]
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Line:
    """`barrier of ARM to ARM`, `barrier of ARM to next seed`. end: None for the next seed."""

    metric: Value
    start: Value
    end: Value | None
    span: Span = _span()


@attrs.frozen
class Report:
    """`report METRIC, … [key=value …]`."""

    metrics: tuple[Value | Line, ...]
    options: tuple[Option, ...]
    span: Span = _span()


@attrs.frozen
class Stop:
    """`stop when CONDITION`."""

    condition: Condition
    span: Span = _span()


Statement = (
    Version | Let | Include | Seeds | Sweep
    | Model | Data | Split | Train
    | Prune | Overlap | Union | Refill | Regroup | Recalibrate | Grow | Rewind | Perturb | Retrain | Distill | Evolve
    | Elastic | Transfer | Cycle
    | Arm | Compare | Report | Stop
)  # fmt: skip
#: The statements of the pipeline, which act in the order written.
PIPELINE = (
    Prune, Overlap, Union, Refill, Regroup, Recalibrate, Grow, Rewind, Perturb, Retrain, Distill, Evolve, Elastic,
    Transfer, Cycle,
)  # fmt: skip
#: The settings: in any order, each once per scope; an arm overrides the settings of the file.
SETTINGS = (Model, Data, Split, Train)


@attrs.frozen
class File:
    """A plan file: its statements, in order, and the ranges of its unparsed text."""

    statements: tuple[Statement, ...]
    source: Source = attrs.field(eq=False, repr=False)
    unparsed: tuple[Span, ...] = attrs.field(default=(), eq=False, repr=False)


def named_arms(node: Any) -> tuple[Value, ...]:
    """The arms that a node of a pipeline refers to, as they are written."""
    match node:
        case Distill(teacher=name) | Matching(arm=name):
            return (name,)
        case Union(arms=names):
            return names
    return ()


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
