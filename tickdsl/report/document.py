"""What a report is made of, whatever it is written as: sections of text, tables, figures and code."""

from __future__ import annotations

from typing import TypeAlias

import attrs


@attrs.frozen
class Text:
    """A paragraph. `kind` is plain, lead (the answer), note, or alarm (what went wrong)."""

    text: str
    kind: str = "plain"


@attrs.frozen
class Heading:
    """A heading inside a section."""

    text: str


@attrs.frozen
class Cell:
    """A cell of a table. `mark` is winning, losing, undecided, best, faint or nothing; `share` in [0, 1] is shown as
    a shade behind the text; `symbol` is a small SVG before it, said again by the text."""

    text: str
    mark: str = ""
    share: float | None = None
    symbol: str = ""


@attrs.frozen
class Table:
    """The first column names the row. `text_columns` are the columns, by number, that hold words and not figures."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: frozenset[int] = frozenset({0})
    note: str = ""


@attrs.frozen
class Figure:
    """An SVG without a style of its own: as it stands on a wide page and, where that would be too small, on a
    phone. `text` says what is to be seen; `legend` names what is drawn, with a small SVG for each."""

    title: str
    description: str
    wide: str
    narrow: str | None = None
    legend: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Panels:
    """Small figures or tables side by side, as many as fit."""

    parts: tuple[Figure | Table, ...]


@attrs.frozen
class Code:
    """`language` is a name of a Pygments lexer."""

    text: str
    language: str


@attrs.frozen
class Bullets:
    items: tuple[str, ...]


@attrs.frozen
class Details:
    """What is shown on request only; on paper always."""

    summary: str
    parts: tuple[Part, ...]


Part: TypeAlias = Text | Heading | Table | Figure | Panels | Code | Bullets | Details


@attrs.frozen
class Section:
    name: str  # a word for links
    title: str
    parts: tuple[Part, ...]


@attrs.frozen
class Document:
    """`facts` are a few words under the title; `status` of the run is "" where it ended well."""

    title: str
    facts: tuple[str, ...]
    lead: str
    alarm: str
    sections: tuple[Section, ...]


def as_cell(text: str | Cell) -> Cell:
    """Plain text as a cell."""
    return text if isinstance(text, Cell) else Cell(text)
