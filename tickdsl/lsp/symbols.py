"""Find definitions and uses of variables and arms, in a plan and its includes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeGuard

import attrs

from tickdsl.errors import TickdslError
from tickdsl.lang import syntax, vocabulary
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.writing.literals import format_value
from tickdsl.lsp.buffers import Buffers

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*")
Definition = syntax.Let | syntax.Sweep | syntax.Arm


@attrs.frozen
class Occurrence:
    """A definition or use of a name. kind: `variable` or `arm`."""

    kind: str
    name: str
    span: syntax.Span
    definition: bool = False


def occurrences(statements: tuple[syntax.Statement, ...]) -> Iterator[Occurrence]:
    """Yield all definitions and uses of variables and arms in the statements of a plan."""
    arms = {s.name.text for s in statements if isinstance(s, syntax.Arm)}
    for node in syntax.walk(statements):
        match node:
            case syntax.Let(name=name) | syntax.Sweep(name=name):
                yield Occurrence("variable", name.text, name.span, definition=True)
            case syntax.Arm(name=name):
                yield Occurrence("arm", name.text, name.span, definition=True)
            case syntax.Ref(name=text, span=span):
                yield Occurrence("variable", text, syntax.Span(span.source, span.end - len(text), span.end))
            case syntax.Compare(names=names):
                yield from (Occurrence("arm", n.text, n.span) for n in names if _is_one_of(n, arms))
            case syntax.Matching() | syntax.Distill() | syntax.Union():
                names = syntax.named_arms(node)
                yield from (Occurrence("arm", name.text, name.span) for name in names if _is_one_of(name, arms))


def _is_one_of(value: syntax.Value, arms: set[str]) -> TypeGuard[syntax.Word]:
    return isinstance(value, syntax.Word) and value.text in arms


def occurrence(buffers: Buffers, uri: str, offset: int) -> Occurrence | None:
    """The variable or arm at an offset of an open plan; None if there is none."""
    return next((o for _, o in _occurrences_at(buffers, uri, offset)), None)


def _occurrences_at(buffers: Buffers, uri: str, offset: int) -> Iterator[tuple[str, Occurrence]]:
    """Yield (URI, occurrence) for the name at an offset, once per open plan that contains this file."""
    for root in sorted(buffers.texts, key=lambda root: root != uri):
        for candidate in occurrences(buffers.loaded(root).statements):
            span = candidate.span
            if span.start <= offset <= span.end and buffers.uri_of(span.source) == uri:
                yield root, candidate
                break


def definition(buffers: Buffers, uri: str, offset: int) -> syntax.Span | None:
    """The definition of the name at an offset, or the start of the file that an `include` there names; else None."""
    source = buffers.sources[uri]
    for statement in parse(source)[0].statements:
        if isinstance(statement, syntax.Include) and statement.span.start <= offset <= statement.span.end:
            included = buffers.included_source(source, statement.path.text)
            return None if included is None else syntax.Span(included, 0, 0)
    for root, use in _occurrences_at(buffers, uri, offset):
        for other in occurrences(buffers.loaded(root).statements):
            if other.definition and (other.kind, other.name) == (use.kind, use.name):
                return other.span
    return None


def describe(buffers: Buffers, uri: str, kind: str, name: str) -> str | None:
    """Markdown for a variable (its value) or an arm (its statement); None if it is not defined."""
    defined = {
        s.name.text: s
        for s in reversed(buffers.loaded(uri).statements)
        if isinstance(s, Definition) and isinstance(s, syntax.Arm) == (kind == "arm")
    }
    statement = defined.get(name)
    if statement is None:
        return None
    text = f"```tickdsl\n{statement.span.text}\n```"
    if isinstance(statement, syntax.Arm):
        return text
    value = statement.value if isinstance(statement, syntax.Let) else statement.values
    seen = {name}
    while isinstance(value, syntax.Ref) and value.name not in seen and value.name in defined:
        seen.add(value.name)
        target = defined[value.name]
        value = target.value if isinstance(target, syntax.Let) else target.values  # type: ignore[union-attr]
    swept = any(isinstance(defined[n], syntax.Sweep) for n in seen)
    return f"{text}\n\n`${name}` {'takes each value of' if swept else 'is'} `{format_value(value)}`"


def rename(buffers: Buffers, uri: str, offset: int, name: str) -> dict[str, list[syntax.Span]]:
    """The spans to replace, by URI, to rename the variable or arm at an offset.

    Raises TickdslError if there is no such name at the offset, the new name is invalid or taken, or a file has syntax
    errors.
    """
    seen = list(_occurrences_at(buffers, uri, offset))
    if not seen:
        raise TickdslError("no variable or arm to rename at this position")
    kind, old = seen[0][1].kind, seen[0][1].name
    if not _NAME.fullmatch(name):
        raise TickdslError(f"`{name}` is not a valid name", "use letters, digits and `_`, with `-` and `.` inside")
    if kind == "arm" and name in (*vocabulary.CONTROLS, vocabulary.ALL_ARMS):
        raise TickdslError(f"`{name}` is built into `compare`", "choose another name")
    spans: dict[str, dict[int, syntax.Span]] = {}
    for root in {root for root, _ in seen}:
        if any(parse(source)[1] for source in buffers.with_includes(buffers.sources[root])):
            raise TickdslError("cannot rename while a statement does not parse", "fix the syntax errors first")
        all_names = list(occurrences(buffers.loaded(root).statements))
        if name != old and any((o.kind, o.name) == (kind, name) for o in all_names):
            raise TickdslError(f"{'arm' if kind == 'arm' else 'variable'} `{name}` already exists")
        if not any(o.definition and (o.kind, o.name) == (kind, old) for o in all_names):
            raise TickdslError(f"`{old}` is not defined", f"add `let {old} = …` first")
        for other in all_names:
            if (other.kind, other.name) == (kind, old):
                spans.setdefault(buffers.uri_of(other.span.source), {})[other.span.start] = other.span
    if not any(o.definition for root, _ in seen for o in occurrences(buffers.loaded(root).statements) if o.name == old):
        raise TickdslError(f"`{old}` is not defined", f"add `let {old} = …` first")
    return {target: list(by_start.values()) for target, by_start in spans.items()}
