"""Print diagnostics: with source lines (`full`), one per line (`concise`), or as JSON, GitHub annotations or SARIF."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.syntax import Span
from tickdsl.printable import printable, printable_json, printable_line

FORMATS = ("full", "concise", "json", "github", "sarif")
#: Terminal columns of the full form.
_WIDTH = 80
_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}


def render(diagnostics: Iterable[Diagnostic], form: str = "full", *, colour: bool = False) -> str:
    """The diagnostics as text in one of FORMATS. Raises ValueError if `form` is not one of them."""
    listed = list(diagnostics)
    match form:
        case "full":
            # Notes need no action, so they come last, one line each.
            blocks = [_full(d, colour) for d in listed if d.severity != "note"]
            notes = ["\n".join(_wrapped(_concise(d), "  ")) + "\n" for d in listed if d.severity == "note"]
            return "\n".join([*blocks, "".join(notes)] if notes else blocks)
        case "concise":
            return "\n".join(_concise(d) for d in listed)
        case "json" | "sarif" | "github":
            return render_all(listed, (), form)
    raise ValueError(f"unknown format {form!r}; use one of {', '.join(FORMATS)}")


def render_all(diagnostics: Iterable[Diagnostic], unread: Iterable[tuple[str, TickdslError]], form: str) -> str:
    """The diagnostics and the unreadable files, as (path, error), in the format json, sarif or github."""
    listed, unreadable = list(diagnostics), list(unread)
    if form == "json":
        objects = [*(as_dict(d) for d in listed), *(_unreadable_as_dict(path, error) for path, error in unreadable)]
        return printable_json(json.dumps(objects, indent=2, ensure_ascii=False))
    if form == "sarif":
        from tickdsl.lang.findings.sarif import sarif_log

        log = sarif_log(listed, [(path, str(error)) for path, error in unreadable])
        return printable_json(json.dumps(log, indent=2, ensure_ascii=False))
    lines = [_github(d) for d in listed]
    lines += [f"::error file={_property(path)},title=unreadable::{_escaped(str(error))}" for path, error in unreadable]
    return "\n".join(lines)


def sorted_unique(diagnostics: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
    """The diagnostics sorted by location, without duplicates."""
    unique: dict[tuple[str, str, int, str], Diagnostic] = {}
    for d in diagnostics:
        unique.setdefault((d.code, d.span.source.path, d.span.start, d.message), d)
    return tuple(sorted(unique.values(), key=lambda d: (d.span.source.path, d.span.start, d.code)))


def _span_fields(span: Span) -> dict[str, Any]:
    line, column = span.end_position
    return {
        "path": span.source.path,
        "line": span.line,
        "column": span.column,
        "end_line": line,
        "end_column": column,
    }


def as_dict(d: Diagnostic) -> dict[str, Any]:
    """A diagnostic as a JSON object."""
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
    """An unreadable file as a JSON object with the keys of a diagnostic; line and column are null."""
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
    line, column = d.span.end_position
    text = "\n".join([d.message, *([d.label] if d.label else []), *([f"help: {d.help}"] if d.help else [])])
    return (
        f"::{kind} file={_property(d.span.source.path)},line={d.span.line},col={d.span.column},"
        f"endLine={line},endColumn={column},title={d.code} {d.slug}::{_escaped(text)}"
    )


def _escaped(text: str) -> str:
    """Escape the message of a GitHub workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """Escape a property of a GitHub workflow command."""
    return _escaped(printable_line(text)).replace(":", "%3A").replace(",", "%2C")


def _full(d: Diagnostic, colour: bool) -> str:
    paint = _COLOURS[d.severity] if colour else ""
    bold, off = ("\x1b[1m", "\x1b[0m") if colour else ("", "")
    severity = f"{d.severity}[{d.code}]"
    first, *rest = _wrapped(f"{severity}: {d.message}", "  ")
    lines = [f"{paint}{severity}{off}{bold}{first.removeprefix(severity)}{off}"]
    lines += [f"{bold}{line}{off}" for line in rest]
    locations = [(d.span, d.label, "^"), *((label.span, label.text, "-") for label in d.secondary)]
    gutter = len(str(max(span.line for span, _, _ in locations)))
    for index, (span, text, mark) in enumerate(locations):
        arrow = "-->" if index == 0 else ":::"
        lines.append(f"{' ' * gutter}{arrow} {span}")
        lines.append(f"{' ' * gutter} |")
        source, column = _excerpt(span.source.line(span.line), span.column, _WIDTH - gutter - 3)
        lines.append(f"{span.line:>{gutter}} | {_shown(source)}".rstrip())
        underline = _underline(column, span.end - span.start, source, mark)
        lines += _marked(underline, text, f"{' ' * gutter} | ", paint, off)
    for name, remark in (*(("note", note) for note in d.notes), *((("help", d.help),) if d.help else ())):
        lines += _wrapped(f"{' ' * gutter} = {name}: {remark}", " " * (gutter + 9))
    return "\n".join(lines) + "\n"


def _marked(underline: str, text: str, margin: str, paint: str, off: str) -> list[str]:
    """The marks under a source line and their text: beside them if there is room, else below."""
    if len(margin) + len(underline) + 1 + _display_width(text) <= _WIDTH:
        return [f"{margin}{paint}{underline}{off} {text}".rstrip()]
    indent = margin + " " * min(len(underline) - len(underline.lstrip()), _WIDTH // 2)
    return [f"{margin}{paint}{underline}{off}", *_wrapped(indent + text, indent)]


def _wrapped(text: str, indent: str) -> list[str]:
    """`text` in lines of at most 80 columns, cut between words only; all but the first begin with `indent`."""
    lines: list[str] = []
    for line in text.split("\n"):
        start = indent if lines else ""
        lines += textwrap.wrap(
            line, _WIDTH, initial_indent=start, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False, expand_tabs=False, replace_whitespace=False,
        ) or [""]  # fmt: skip
    return lines


def _excerpt(line: str, column: int, limit: int) -> tuple[str, int]:
    """The part of a line around a column that fits in `limit` characters, and the place of the column in it."""
    if _display_width(_shown(line)) <= limit:
        return line, column
    room = limit - 4
    start = max(0, min(column - 1 - room // 3, len(line) - room))
    before, after = "… " if start else "", " …" if start + room < len(line) else ""
    return f"{before}{line[start : start + room]}{after}", column - start + len(before)


def _underline(column: int, length: int, line: str, mark: str) -> str:
    start = column - 1
    before, under = _shown(line[:start]), printable(line[start : start + max(1, length)])
    return " " * _display_width(before) + mark * max(1, _display_width(under))


def _shown(line: str) -> str:
    """A line of a plan as it is printed."""
    return printable(line).expandtabs(4)


def _display_width(text: str) -> int:
    """The number of terminal columns that the text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
