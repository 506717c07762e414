"""The look of tables in the terminal: box, width, and the ASCII fallback."""

from __future__ import annotations

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table


def new_table() -> Table:
    """An empty table with a rule below its header and no outer border."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)


def table_width(table: Table, console: Console) -> int:
    """The width in cells that the table needs to show every cell in full."""
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


class AsciiOnly:
    """Renders `content` with ASCII replacements, for terminals without Unicode."""

    _REPLACEMENTS = str.maketrans(
        {"±": "+-", "–": "-", "−": "-", "·": ";", "─": "-", "…": "~", "µ": "u", "↑": "^", "↓": "v", "²": "2", "é": "e"}
    )

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console, options):  # type: ignore[no-untyped-def]
        for segment in console.render(self._content, options):
            yield segment._replace(text=segment.text.translate(self._REPLACEMENTS))
