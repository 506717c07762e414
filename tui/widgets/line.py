"""A one-line widget, redrawn only when its text changes."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual.strip import Strip
from textual.widget import Widget


class Line(Widget):
    """A line of text rendered for the available width."""

    DEFAULT_CSS = "Line { height: 1; }"

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._render_text: Callable[[int], Text] = lambda width: Text("", end="")
        self._last_text: Text | None = None

    def show(self, render_text: Callable[[int], Text]) -> None:
        """Show the text that `render_text` returns for the width in cells, now and after each resize."""
        self._render_text = render_text
        text = render_text(self.size.width)
        if self._last_text is None or text != self._last_text or text.spans != self._last_text.spans:
            self.refresh()

    def render_line(self, y: int) -> Strip:
        self._last_text = self._render_text(self.size.width)
        strip = Strip(self._last_text.render(self.app.console)).adjust_cell_length(self.size.width)
        return strip.apply_style(self.rich_style)
