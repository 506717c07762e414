"""Variables and arms: where they are defined and used, in a plan and all it includes."""

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
    """A name where it stands. kind: `variable` or `arm`."""

    kind: str
    name: str
    span: syntax.Span
    definition: bool = False


def occurrences(statements: tuple[syntax.Statement, ...]) -> Iterator[Occurrence]:
    """All names of variables and arms in a plan's statements."""
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
            case syntax.Matching(arm=name) | syntax.Distill(teacher=name) if _is_one_of(name, arms):
                yield Occurrence("arm", name.text, name.span)


def _is_one_of(value: syntax.Value, arms: set[str]) -> TypeGuard[syntax.Word]:
    return isinstance(value, syntax.Word) and value.text in arms


def occurrence(buffers: Buffers, uri: str, offset: int) -> Occurrence | None:
    """The name at an offset of an open plan."""
    return next((o for _, o in _occurrences_at(buffers, uri, offset)), None)


def _occurrences_at(buffers: Buffers, uri: str, offset: int) -> Iterator[tuple[str, Occurrence]]:
    """The name at an offset, as each open plan that this one is a part of sees it."""
    for root in sorted(buffers.texts, key=lambda root: root != uri):
        for found in occurrences(buffers.loaded(root).statements):
            span = found.span
            if span.start <= offset <= span.end and buffers.uri_of(span.source) == uri:
                yield root, found
                break


def definition(buffers: Buffers, uri: str, offset: int) -> syntax.Span | None:
    """Where the name at an offset is defined; of an `include` the start of the file."""
    source = buffers.sources[uri]
    for statement in parse(source)[0].statements:
        if isinstance(statement, syntax.Include) and statement.span.start <= offset <= statement.span.end:
            there = buffers.included_source(source, statement.path.text)
            return None if there is None else syntax.Span(there, 0, 0)
    for root, found in _occurrences_at(buffers, uri, offset):
        for other in occurrences(buffers.loaded(root).statements):
            if other.definition and (other.kind, other.name) == (found.kind, found.name):
                return other.span
    return None


def describe(buffers: Buffers, uri: str, kind: str, name: str) -> str | None:
    """What a variable stands for, or what an arm does, in Markdown."""
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
    return f"{text}\n\n`${name}` is {'each of ' if swept else ''}`{format_value(value)}`"


def rename(buffers: Buffers, uri: str, offset: int, name: str) -> dict[str, list[syntax.Span]]:
    """All places of the name at an offset, by address. Raises TickdslError where the new name will not do."""
    found = list(_occurrences_at(buffers, uri, offset))
    if not found:
        raise TickdslError("here stands no name of a `let`, a `sweep` or an `arm`")
    kind, old = found[0][1].kind, found[0][1].name
    if not _NAME.fullmatch(name):
        raise TickdslError(f"`{name}` is not a name", "letters, digits and _, with - and . inside")
    if kind == "arm" and name in (*vocabulary.CONTROLS, vocabulary.ALL_ARMS):
        raise TickdslError(f"`{name}` is a builtin of `compare`", "pick another name")
    places: dict[str, dict[int, syntax.Span]] = {}
    for root in {root for root, _ in found}:
        if any(parse(source)[1] for source in buffers.with_includes(buffers.sources[root])):
            raise TickdslError("a statement that does not parse may hold this name too", "mend the syntax first")
        all_names = list(occurrences(buffers.loaded(root).statements))
        if name != old and any((o.kind, o.name) == (kind, name) for o in all_names):
            raise TickdslError(f"there is already {'an arm' if kind == 'arm' else 'a variable'} `{name}`")
        if not any(o.definition and (o.kind, o.name) == (kind, old) for o in all_names):
            raise TickdslError(f"`{old}` is defined nowhere", f"add `let {old} = …` first")
        for other in all_names:
            if (other.kind, other.name) == (kind, old):
                places.setdefault(buffers.uri_of(other.span.source), {})[other.span.start] = other.span
    if not any(
        o.definition for root, _ in found for o in occurrences(buffers.loaded(root).statements) if o.name == old
    ):
        raise TickdslError(f"`{old}` is defined nowhere", f"add `let {old} = …` first")
    return {address: list(spans.values()) for address, spans in places.items()}
