"""Views of findings: full (source, caret, cure; notes a line each), concise (a line each), JSON, and CI annotations."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.syntax import Span

FORMATS = ("full", "concise", "json", "github", "sarif")
_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}


def render(diagnostics: Iterable[Diagnostic], form: str = "full", *, colour: bool = False) -> str:
    """All findings as text in one of FORMATS."""
    found = list(diagnostics)
    match form:
        case "full":
            # Notes tell nothing that is to be mended: a line each, behind what is.
            blocks = [_full(d, colour) for d in found if d.severity != "note"]
            notes = [_concise(d) + "\n" for d in found if d.severity == "note"]
            return "\n".join([*blocks, "".join(notes)] if notes else blocks)
        case "concise":
            return "\n".join(_concise(d) for d in found)
        case "json" | "sarif" | "github":
            return render_all(found, (), form)
    raise ValueError(f"no format {form!r}; one of {', '.join(FORMATS)}")


def render_all(diagnostics: Iterable[Diagnostic], unread: Iterable[tuple[str, TickdslError]], form: str) -> str:
    """Findings and the files that could not be read, each with its path, for another program: json, sarif, github."""
    found, missing = list(diagnostics), list(unread)
    if form == "json":
        return json.dumps(
            [*(as_dict(d) for d in found), *(_unreadable_as_dict(*one) for one in missing)],
            indent=2,
            ensure_ascii=False,
        )
    if form == "sarif":
        from tickdsl.lang.findings.sarif import sarif

        return json.dumps(sarif(found, [(path, str(error)) for path, error in missing]), indent=2, ensure_ascii=False)
    lines = [_github(d) for d in found]
    lines += [f"::error file={_property(path)},title=unreadable::{_escaped(str(error))}" for path, error in missing]
    return "\n".join(lines)


def sorted_unique(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """By place, each finding once."""
    unique: dict[tuple[str, str, int, str], Diagnostic] = {}
    for d in diagnostics:
        unique.setdefault((d.code, d.span.source.path, d.span.start, d.message), d)
    return tuple(sorted(unique.values(), key=lambda d: (d.span.source.path, d.span.start, d.code)))


def _span_fields(span: Span) -> dict[str, Any]:
    line, column = span.last
    return {
        "path": span.source.path,
        "line": span.line,
        "column": span.column,
        "end_line": line,
        "end_column": column,
    }


def as_dict(d: Diagnostic) -> dict[str, Any]:
    """The JSON view of one finding."""
    return {
        "code": d.code,
        "name": d.slug,
        "severity": d.severity,
        "message": d.message,
        **_span_fields(d.span),
        "label": d.label,
        "related": [{**_span_fields(label.span), "message": label.text} for label in d.secondary],
        "notes": list(d.notes),
        "help": d.help,
    }


def _unreadable_as_dict(path: str, error: TickdslError) -> dict[str, Any]:
    """A file that could not be read, in the shape of a finding without a place."""
    return {
        "code": None,
        "name": "unreadable",
        "severity": "error",
        "message": error.message,
        "path": path,
        **dict.fromkeys(("line", "column", "end_line", "end_column")),
        "label": "",
        "related": [],
        "notes": [],
        "help": error.hint,
    }


def _concise(d: Diagnostic) -> str:
    tail = f" ({d.label})" if d.label else f" (help: {d.help})" if d.help else ""
    return f"{d.span}: {d.severity}[{d.code}] {d.message}{tail}"


def _github(d: Diagnostic) -> str:
    kind = "notice" if d.severity == "note" else d.severity
    line, column = d.span.last
    text = "\n".join([d.message, *([d.label] if d.label else []), *([f"help: {d.help}"] if d.help else [])])
    return (
        f"::{kind} file={_property(d.span.source.path)},line={d.span.line},col={d.span.column},"
        f"endLine={line},endColumn={column},title={d.code} {d.slug}::{_escaped(text)}"
    )


def _escaped(text: str) -> str:
    """The text of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A property of a workflow command."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _full(d: Diagnostic, colour: bool) -> str:
    paint = _COLOURS[d.severity] if colour else ""
    bold, off = ("\x1b[1m", "\x1b[0m") if colour else ("", "")
    lines = [f"{paint}{d.severity}[{d.code}]{off}{bold}: {d.message}{off}"]
    places = [(d.span, d.label, "^"), *((label.span, label.text, "-") for label in d.secondary)]
    gutter = len(str(max(span.line for span, _, _ in places)))
    for index, (span, text, mark) in enumerate(places):
        arrow = "-->" if index == 0 else ":::"
        lines.append(f"{' ' * gutter}{arrow} {span}")
        lines.append(f"{' ' * gutter} |")
        source = span.source.line(span.line)
        lines.append(f"{span.line:>{gutter}} | {source.expandtabs(4)}".rstrip())
        lines.append(f"{' ' * gutter} | {paint}{_underline(span, source, mark)}{off} {text}".rstrip())
    lines += [f"{' ' * gutter} = note: {note}" for note in d.notes]
    if d.help:
        lines.append(f"{' ' * gutter} = help: {d.help}")
    return "\n".join(lines) + "\n"


def _underline(span: Span, line: str, mark: str) -> str:
    start = span.column - 1
    end = start + max(1, span.end - span.start)
    before, under = line[:start].expandtabs(4), line[start:end]
    return " " * _display_width(before) + mark * max(1, _display_width(under))


def _display_width(text: str) -> int:
    """Columns that a terminal gives the text."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
