"""Fits text into fixed-width terminal cells."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.text import Text


def fit(text: str, width: int) -> str:
    """`text` padded or truncated with an ellipsis to exactly `width` cells; control characters become spaces."""
    width = max(0, width)
    text = text.translate(_CONTROLS)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)


def fit_middle(text: str, width: int) -> str:
    """`text` padded to exactly `width` cells, or cut in the middle: names often differ at their ends."""
    text, width = text.translate(_CONTROLS), max(0, width)
    if cell_len(text) <= width or width < 5:
        return fit(text, width)
    tail = (width - 1) // 2
    end = text[-tail:]
    while cell_len(end) > tail:
        end = end[1:]
    return set_cell_size(text, width - 1 - cell_len(end)) + "…" + end


def align_right(text: str, width: int) -> str:
    """`text` right-aligned in exactly `width` cells."""
    missing = width - cell_len(text)
    return " " * missing + text if missing >= 0 else fit(text, width)


def styled_line(*parts: tuple[str, str]) -> Text:
    """A line made of (text, style) parts."""
    line = Text(no_wrap=True, end="")
    for text, style in parts:
        line.append(text, style or None)
    return line


# Control characters in a message could move the cursor.
_CONTROLS = dict.fromkeys([*range(32), 127, *range(128, 160)], " ")
