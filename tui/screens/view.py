"""What all screens have in common."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Container
from textual.widget import Widget

from ..theme import palette_of
from ..views.glance import Glance
from ..views.marks import Palette


class View(Container):
    """A screen. It is shown glances while it is seen, and keeps the last of them.

    `KEYS` are the keys of its own that the key line names, with what they do.
    """

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    DEFAULT_FOCUS: ClassVar[str] = "Rows"
    glance: Glance | None = None

    @property
    def palette(self) -> Palette:
        """The colours of the theme."""
        return palette_of(self.app.theme)

    def take_focus(self) -> None:
        """Give the keyboard to the part that is used most."""
        self.query_one(self.DEFAULT_FOCUS).focus()

    def fit_list(self, panel: str, lines: int, chart: type[Widget]) -> bool:
        """Give a panel the `lines` that it fills, and the rest to the chart; whether that has its room."""
        lines += 1 if self.app.screen_stack[0].has_class("-narrow") else 2
        self.query_one(panel).styles.max_height = lines
        room = self.size.height >= 26 or self.size.height - lines >= 9
        self.query_one(chart).display = room
        return room

    def on_resize(self) -> None:
        self.again()

    def show(self, glance: Glance) -> None:
        """Take this glance and draw what it changes."""
        self.glance = glance
        self.draw(glance)

    def draw(self, glance: Glance) -> None:
        """Draw a glance."""
        raise NotImplementedError

    def again(self) -> None:
        """Draw the last glance again, after a key changed how it is looked at."""
        if self.glance is not None:
            self.draw(self.glance)

    def reset(self) -> None:
        """Back to how the screen looked at first."""
        self.again()
