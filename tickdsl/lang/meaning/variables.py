"""Collect and check the variables of a plan: `let` and `sweep`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.meaning.values import DiagnosticSink, InvalidValueError, ValueReader
from tickdsl.lang.writing.literals import format_value


@attrs.frozen
class Variables:
    """The values of every `let` and of every `sweep`, by name."""

    lets: dict[str, syntax.Value]
    sweeps: dict[str, tuple[syntax.Value, ...]]

    def follow_lets(self, names: set[str]) -> set[str]:
        """The names, with those that the lets among them refer to, directly or not."""
        reached: set[str] = set()
        while names:
            reached |= names
            names = set().union(*(references(self.lets[name]) for name in names if name in self.lets)) - reached
        return reached


def collect(statements: Sequence[syntax.Statement], report: DiagnosticSink) -> Variables:
    """Collect the variables of a plan; duplicate, undefined and empty ones are reported."""
    lets = _collect_lets(statements, report)
    variables = Variables(lets, _collect_sweeps(statements, lets, report))
    _check_lets(statements, variables, report)
    return variables


def references(node: object) -> set[str]:
    """The names of all `$name` references in a node."""
    return {n.name for n in syntax.walk(node) if isinstance(n, syntax.Ref)}


def report_duplicate(
    subject: str, span: syntax.Span, first: syntax.Span | None, report: DiagnosticSink, help: str | None = None
) -> None:
    """Report TD108: a variable or setting is set twice."""
    secondary = (Label(first, "first set here"),) if first else ()
    help = help or "remove one of them"
    report(Diagnostic("TD108", f"{subject} is set twice", span, secondary=secondary, help=help))


def report_unused(statements: Sequence[syntax.Statement], variables: Variables, report: DiagnosticSink) -> None:
    """Report every `let` and `sweep` that no statement uses."""
    used = references(statements)
    for statement in syntax.of_type(statements, syntax.Let):
        name = statement.name.text
        if name not in used:
            help = f"use it as `${name}`, or remove it"
            report(Diagnostic("TD107", f"`let {name}` is never used", statement.name.span, help=help))
    for statement in syntax.of_type(statements, syntax.Sweep):
        name = statement.name.text
        if name not in used and len(variables.sweeps.get(name, ())) > 1:
            report(
                Diagnostic(
                    "TD512",
                    f"`sweep {name}` is never used: all of its runs would be identical",
                    statement.name.span,
                    help=f"use `${name}` where the value belongs, or remove the sweep",
                )
            )


def _collect_lets(statements: Sequence[syntax.Statement], report: DiagnosticSink) -> dict[str, syntax.Value]:
    lets: dict[str, syntax.Value] = {}
    spans: dict[str, syntax.Span] = {}
    sweeps = {s.name.text for s in syntax.of_type(statements, syntax.Sweep)}
    for statement in syntax.of_type(statements, syntax.Let):
        name = statement.name.text
        if name in spans or name in sweeps:
            report_duplicate(f"`{name}`", statement.name.span, spans.get(name), report)
            continue
        spans[name] = statement.name.span
        lets[name] = statement.value
    return lets


def _collect_sweeps(
    statements: Sequence[syntax.Statement], lets: dict[str, syntax.Value], report: DiagnosticSink
) -> dict[str, tuple[syntax.Value, ...]]:
    sweeps: dict[str, tuple[syntax.Value, ...]] = {}
    reader = ValueReader(lets, report)
    for statement in syntax.of_type(statements, syntax.Sweep):
        name = statement.name.text
        if name in sweeps:
            report_duplicate(f"`sweep {name}`", statement.name.span, None, report)
            continue
        try:
            values = tuple(reader.dereference(v) for v in reader.items(statement.values))
        except InvalidValueError:
            continue
        if not values:
            report(Diagnostic("TD105", f"`sweep {name}` has no values", statement.values.span))
            continue
        sweeps[name] = tuple(dict.fromkeys(values))
        seen: set[syntax.Value] = set()
        for value in values:
            if value in seen:
                message = f"`sweep {name}` has the value `{format_value(value)}` twice"
                report(Diagnostic("TD121", message, value.span, help="remove one of them, or change it"))
                break
            seen.add(value)
    return sweeps


def _check_lets(statements: Sequence[syntax.Statement], variables: Variables, report: DiagnosticSink) -> None:
    """Report undefined and circular references in lets, each once; lets may refer to lets and sweeps in any order."""
    first_values = {name: values[0] for name, values in variables.sweeps.items()}
    reader = ValueReader({**variables.lets, **first_values}, report)
    checked: set[str] = set()
    for statement in syntax.of_type(statements, syntax.Let):
        names: dict[str, None] = {}
        value: syntax.Value | None = statement.value
        while isinstance(value, syntax.Ref) and not (value.name in checked or value.name in names):
            names[value.name] = None
            value = reader.bindings.get(value.name)
        if value is None or (isinstance(value, syntax.Ref) and value.name in names):
            with contextlib.suppress(InvalidValueError):
                reader.dereference(statement.value)
        checked |= names.keys()
