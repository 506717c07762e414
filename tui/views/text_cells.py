"""Lines of cells of fixed widths."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.text import Text


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells: filled up, or cut with an ellipsis."""
    width = max(0, width)
    text = text.translate(_CONTROLS)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)


def align_right(text: str, width: int) -> str:
    """`text` at the right of exactly `width` cells."""
    missing = width - cell_len(text)
    return " " * missing + text if missing >= 0 else fit(text, width)


def styled_line(*parts: tuple[str, str]) -> Text:
    """A line of (text, style) pieces."""
    line = Text(no_wrap=True, end="")
    for text, style in parts:
        line.append(text, style or None)
    return line


# A message may hold what would move the cursor.
_CONTROLS = dict.fromkeys([*range(32), 127, *range(128, 160)], " ")
