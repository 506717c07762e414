"""A list widget that renders only the visible rows, so that it can hold a million of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

DrawRow = Callable[[Any, int], Text]


class Rows(ScrollView, can_focus=True):
    """A list of rows of any type, rendered by `draw(row, width)`; `key` identifies a row across updates.

    With `follow`, the cursor stays on the last row until it is moved away from it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="list.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="list.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page-up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page-down"),
        Binding("home,g", "jump(0)", "First", show=False, id="list.first"),
        Binding("end,G", "jump(-1)", "Last", show=False, id="list.last"),
        Binding("enter", "choose", "Open", show=False, id="list.open"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor"}
    DEFAULT_CSS = """
    Rows { scrollbar-size-vertical: 1; overflow-x: hidden; overflow-y: auto; }
    Rows > .rows--cursor { background: $cursor-line; }
    """
    cursor: reactive[int] = reactive(0, repaint=False)

    class RowMessage(Message):
        """Base class of messages about a row."""

        def __init__(self, rows: Rows, row: Any) -> None:
            super().__init__()
            self.rows = rows
            self.row = row

        @property
        def control(self) -> Rows:
            """The list."""
            return self.rows

    class Selected(RowMessage):
        """A row was opened with enter or a double click."""

    class CursorMoved(RowMessage):
        """The user moved the cursor to a row."""

    def __init__(
        self,
        draw: DrawRow,
        key: Callable[[Any], Hashable] = lambda row: row,
        follow: bool = False,
        placeholder_text: str = "",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._draw = draw
        self._key = key
        self._follow = follow
        self.placeholder_text = placeholder_text
        self.rows: Sequence[Any] = ()

    @property
    def following(self) -> bool:
        """Whether the cursor follows new rows at the end."""
        return self._follow and self.cursor >= len(self.rows) - 1

    @property
    def row(self) -> Any | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    def show(self, rows: Sequence[Any]) -> None:
        """Show these rows; the cursor stays on its row if that is still present."""
        old, following = self.rows, self.following
        old_cursor, current_row = self.cursor, self.row
        self.rows = rows
        if following:
            self.cursor = len(rows) - 1
        elif current_row is not None and not (
            old_cursor < len(rows) and self._key(rows[old_cursor]) == self._key(current_row)
        ):
            current_key = self._key(current_row)
            index = next((n for n, row in enumerate(rows) if self._key(row) == current_key), None)
            self.cursor = index if index is not None else old_cursor
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        if len(rows) != len(old):
            self.virtual_size = Size(0, len(rows))
            if self.cursor != old_cursor:
                self._scroll_to_cursor()
            self.refresh()
            return
        top = self.scroll_offset.y
        for n in range(top, min(top + self.size.height, len(rows))):
            if rows[n] != old[n]:
                self.refresh_line(n)

    def select(self, key: Hashable) -> bool:
        """Move the cursor to the row with this key; return whether it exists."""
        index = next((n for n, row in enumerate(self.rows) if self._key(row) == key), None)
        if index is None:
            return False
        self.cursor = index
        self._scroll_to_cursor()
        return True

    def watch_cursor(self, old: int, new: int) -> None:
        self.refresh_line(old)
        self.refresh_line(new)

    def render_line(self, y: int) -> Strip:
        width, n = self.scrollable_content_region.width, self.scroll_offset.y + y
        style = self.rich_style
        if n >= len(self.rows):
            placeholder = f" {self.placeholder_text}" if n == 0 and not self.rows else ""
            line = Text(placeholder[:width], style="dim", end="")
        else:
            line = self._draw(self.rows[n], width)
            if n == self.cursor:
                cursor = self.get_component_rich_style("rows--cursor", partial=True)
                style += cursor if self.has_focus else Style(bold=False)
                if self.has_focus:
                    line.stylize(Style(bgcolor=cursor.bgcolor))
        strip = Strip(line.render(self.app.console)).adjust_cell_length(width)
        return strip.apply_style(style)

    def on_focus(self) -> None:
        self.refresh_line(self.cursor)

    def on_blur(self) -> None:
        self.refresh_line(self.cursor)

    def on_click(self, event: events.Click) -> None:
        n = self.scroll_offset.y + event.y
        if n < len(self.rows):
            double_click = n == self.cursor and event.chain > 1
            self._move_cursor(n)
            if double_click:
                self.action_choose()

    def action_move(self, by: int) -> None:
        self._move_cursor(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._move_cursor(self.cursor + by * max(1, self.size.height - 1))

    def action_jump(self, to: int) -> None:
        self._move_cursor(len(self.rows) - 1 if to < 0 else to)

    def action_choose(self) -> None:
        if self.row is not None:
            self.post_message(self.Selected(self, self.row))

    def _move_cursor(self, to: int) -> None:
        self.cursor = max(0, min(to, len(self.rows) - 1))
        self._scroll_to_cursor()
        if self.row is not None:
            self.post_message(self.CursorMoved(self, self.row))

    def _scroll_to_cursor(self) -> None:
        """Scroll just enough to make the cursor visible."""
        top, height = self.scroll_offset.y, max(1, self.size.height)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, force=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, force=True)
