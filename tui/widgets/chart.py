"""The chart widget, redrawn only when its data or size changes."""

from __future__ import annotations

from rich.text import Text
from textual.content import Content
from textual.strip import Strip
from textual.widget import Widget

from ..theme import palette_of
from ..views.braille_chart import ChartData, draw_chart


class Chart(Widget, can_focus=True):
    """Draws `ChartData`; the chart title becomes the border title."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._chart: ChartData | None = None
        self._cache: tuple[object, list[Text]] = (None, [])

    @property
    def chart(self) -> ChartData | None:
        """The data that is shown."""
        return self._chart

    def show(self, chart: ChartData) -> None:
        """Show new data."""
        if chart != self._chart:
            self._chart = chart
            self.border_title = Content(chart.title)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        lines = self._lines(width, height)
        line = lines[y] if y < len(lines) else Text("", end="")
        return Strip(line.render(self.app.console)).adjust_cell_length(width).apply_style(self.rich_style)

    def _lines(self, width: int, height: int) -> list[Text]:
        palette = palette_of(self.app.theme)
        cache_key = (self._chart, width, height, palette)
        if self._cache[0] != cache_key:
            lines = draw_chart(self._chart, width, height, palette.ink, palette.dim) if self._chart else []
            self._cache = (cache_key, lines)
        return self._cache[1]
