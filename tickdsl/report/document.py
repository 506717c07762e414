"""The document model of a report: sections of text, tables, figures and code, independent of the output format."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import attrs


@attrs.frozen
class Text:
    """A paragraph. `kind` is plain, lead (the main result), note, or alarm (a failure)."""

    text: str
    kind: str = "plain"


@attrs.frozen
class Heading:
    """A heading inside a section."""

    text: str


@attrs.frozen
class Cell:
    """A table cell.

    `mark` is winning, losing, undecided, best, faint or empty; `share` in [0, 1] shades the background; `symbol` is a
    decorative SVG before the text.
    """

    text: str
    mark: str = ""
    share: float | None = None
    symbol: str = ""


@attrs.frozen
class Table:
    """A table whose first column names the row; `text_columns` are the indices of left-aligned text columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: frozenset[int] = frozenset({0})
    note: str = ""


@attrs.frozen
class Figure:
    """An SVG figure without a style sheet, drawn when a page needs it.

    `wide` is for desktop pages, `narrow` for phones, if it differs. `description` is the text alternative; `legend`
    holds (symbol SVG, label) pairs.
    """

    title: str
    description: str
    wide: Callable[[], str]
    narrow: Callable[[], str] | None = None
    legend: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Panels:
    """Small figures or tables side by side, wrapped to the page width."""

    parts: tuple[Figure | Table, ...]


@attrs.frozen
class Beside:
    """A figure, and other parts beside it where the page is wide enough."""

    figure: Figure
    parts: tuple[Part, ...]


@attrs.frozen
class Code:
    """A code block; `language` is the name of a Pygments lexer."""

    text: str
    language: str


@attrs.frozen
class Bullets:
    """A bulleted list."""

    items: tuple[str, ...]


@attrs.frozen
class Details:
    """Collapsible content; always expanded in print."""

    summary: str
    parts: tuple[Part, ...]


Part: TypeAlias = Text | Heading | Table | Figure | Panels | Beside | Code | Bullets | Details


@attrs.frozen
class Section:
    """A section; `name` is its anchor."""

    name: str
    title: str
    parts: tuple[Part, ...]


@attrs.frozen
class Document:
    """A whole report: `facts` appear under the title, `alarm` is a failure notice or "".

    `answers` are sentences, one for each question that the plans ask; the first `main_results` of them are the main
    result of each run.
    """

    title: str
    facts: tuple[str, ...]
    answers: tuple[str, ...]
    alarm: str
    sections: tuple[Section, ...]
    main_results: int = 1


def as_cell(text: str | Cell) -> Cell:
    """Wrap plain text in a cell."""
    return text if isinstance(text, Cell) else Cell(text)
