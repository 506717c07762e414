"""Renders a document as Markdown with pipe tables. Figures are left out; the tables contain their values."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tickdsl.report.document import (
    Beside,
    Bullets,
    Code,
    Details,
    Document,
    Figure,
    Heading,
    Panels,
    Part,
    Section,
    Table,
    Text,
)


def render_markdown(document: Document) -> str:
    """The Markdown text of a document."""
    blocks = [f"# {_escape(document.title)}", _escape(" · ".join(document.facts))]
    blocks += [f"> **{_escape(document.alarm)}**"] if document.alarm else []
    blocks += [f"**{_escape(answer)}**" for answer in document.answers]
    for section in document.sections:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> Iterator[str]:
    blocks = [block for part in section.parts for block in _part(part, 3)]
    if blocks:
        yield f"## {section.title}"
        yield from blocks


def _part(part: Part, depth: int) -> Iterator[str]:
    match part:
        case Text():
            yield _escape(part.text)
        case Heading():
            yield f"{'#' * depth} {_escape(part.text)}"
        case Bullets():
            yield "\n".join(f"- {_escape(item)}" for item in part.items)
        case Code():
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", part.text)), default=0))
            yield f"{fence}{part.language}\n{part.text.rstrip()}\n{fence}"
        case Table():
            yield f"{'#' * depth} {_escape(part.caption)}"
            yield _table(part)
            if part.note:
                yield _escape(part.note)
        case Details():
            for inner in part.parts:
                yield from _part(inner, depth)
        case Panels():  # one level below the heading of the panels
            for inner in part.parts:
                yield from _part(inner, depth + 1)
        case Beside():
            for inner in part.parts:
                yield from _part(inner, depth)
        case Figure():
            return


def _table(table: Table) -> str:
    rules = [":--" if index in table.text_columns else "--:" for index in range(len(table.columns))]
    rows = [table.columns, rules, *([cell.text for cell in row] for row in table.rows)]
    cells = [[_escape(text).replace("|", "\\|") for text in row] for row in (rows[0], *rows[2:])]
    lines = [cells[0], rules, *cells[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Escape Markdown syntax; arm names may contain [, *, _ and <."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", " ".join(text.split()))
