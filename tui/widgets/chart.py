"""A chart that is drawn again only when its picture or its room changed."""

from __future__ import annotations

from rich.text import Text
from textual.strip import Strip
from textual.widget import Widget

from ..theme import palette_of
from ..views.drawing import Picture, draw


class Chart(Widget, can_focus=True):
    """Draws a Picture; its title becomes the panel's."""

    def __init__(self, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._picture: Picture | None = None
        self._drawn: tuple[object, list[Text]] = (None, [])

    @property
    def picture(self) -> Picture | None:
        """What is shown."""
        return self._picture

    def show(self, picture: Picture) -> None:
        """Draw this picture from now on."""
        if picture != self._picture:
            self._picture = picture
            self.border_title = picture.title
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        lines = self._lines(width, height)
        line = lines[y] if y < len(lines) else Text("", end="")
        return Strip(line.render(self.app.console)).adjust_cell_length(width).apply_style(self.rich_style)

    def _lines(self, width: int, height: int) -> list[Text]:
        palette = palette_of(self.app.theme)
        made_of = (self._picture, width, height, palette)
        if self._drawn[0] != made_of:
            lines = draw(self._picture, width, height, palette.ink, palette.dim) if self._picture else []
            self._drawn = (made_of, lines)
        return self._drawn[1]
