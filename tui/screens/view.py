"""What all screens have in common."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Container
from textual.widget import Widget

from ..theme import palette_of
from ..views.glyphs import Palette
from ..views.snapshot import Snapshot


class View(Container):
    """A screen. It is shown glances while it is seen, and keeps the last of them.

    `KEYS` are the keys of its own that the key line names, with what they do.
    """

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    DEFAULT_FOCUS: ClassVar[str] = "Rows"
    snapshot: Snapshot | None = None

    @property
    def palette(self) -> Palette:
        """The colours of the theme."""
        return palette_of(self.app.theme)

    def take_focus(self) -> None:
        """Give the keyboard to the part that is used most."""
        self.query_one(self.DEFAULT_FOCUS).focus()

    def fit_panel(self, panel: str, lines: int, chart: type[Widget]) -> bool:
        """Give a panel the `lines` that it fills, and the rest to the chart; whether that has its room."""
        lines += 1 if self.app.screen_stack[0].has_class("-narrow") else 2
        self.query_one(panel).styles.max_height = lines
        has_room = self.size.height >= 26 or self.size.height - lines >= 9
        self.query_one(chart).display = has_room
        return has_room

    def on_resize(self) -> None:
        self.redraw()

    def show(self, snapshot: Snapshot) -> None:
        """Take this snapshot and draw what it changes."""
        self.snapshot = snapshot
        self.draw(snapshot)

    def draw(self, snapshot: Snapshot) -> None:
        """Draw a snapshot."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw the last snapshot again, after a key changed how it is looked at."""
        if self.snapshot is not None:
            self.draw(self.snapshot)

    def reset(self) -> None:
        """Back to how the screen looked at first."""
        self.redraw()
