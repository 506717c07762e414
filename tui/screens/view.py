"""What all screens have in common."""

from __future__ import annotations

from typing import ClassVar

from textual.containers import Container

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
