"""The base class of the screens."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.containers import Container
from textual.widget import Widget

from ..theme import palette_of
from ..views.glyphs import Palette
from ..views.snapshot import Snapshot


class View(Container):
    """A screen. While visible, it is given snapshots to draw, and keeps the last one.

    `KEYS` are its (key, description) pairs for the key bar.
    """

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    DEFAULT_FOCUS: ClassVar[str] = "Rows"
    snapshot: Snapshot | None = None

    @property
    def palette(self) -> Palette:
        """The colours of the current theme."""
        return palette_of(self.app.theme)

    def take_focus(self) -> None:
        """Focus the main widget of the screen."""
        self.query_one(self.DEFAULT_FOCUS).focus()

    def fit_panel(self, panel: str, lines: int, chart: type[Widget]) -> bool:
        """Limit a panel to `lines` lines and give the rest to the chart; return whether the chart has room."""
        lines += 1 if self.app.screen_stack[0].has_class("-narrow") else 2
        self.query_one(panel).styles.max_height = lines
        has_room = self.size.height >= 26 or self.size.height - lines >= 9
        self.query_one(chart).display = has_room
        return has_room

    def on_resize(self) -> None:
        self.redraw()
        self.call_after_refresh(self._keep_focus)

    def _keep_focus(self) -> None:
        monitor: Any = self.app
        monitor.ensure_focus()

    def show(self, snapshot: Snapshot) -> None:
        """Keep and draw a snapshot."""
        self.snapshot = snapshot
        self.draw(snapshot)

    def draw(self, snapshot: Snapshot) -> None:
        """Draw a snapshot."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw the last snapshot again after a change of view settings."""
        if self.snapshot is not None:
            self.draw(self.snapshot)

    def reset(self) -> None:
        """Reset the view settings."""
        self.redraw()
