"""The log screen."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from tickdsl.plurals import plural
from tickdsl.records import EventRecord

from ..views.log import LogRow, as_log_row, log_line, log_rows
from ..views.snapshot import Snapshot
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class LogView(View):
    """The notable events, latest last; follows the end until the cursor is moved away from it."""

    KEYS = (("enter", "full message"), ("G", "end"))
    DEFAULT_FOCUS = "#log-rows"
    engine_log_tail: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="log-panel"):
            yield Rows(
                self._line,
                follow=True,
                placeholder_text="no events, or none that match the filter",
                id="log-rows",
            )

    def draw(self, snapshot: Snapshot) -> None:
        rows = log_rows(snapshot, self.engine_log_tail)
        self.query_one("#log-panel").border_title = f"Log: {plural(len(rows), 'line')}"
        self.query_one("#log-rows", Rows).show(rows)

    def reset(self) -> None:
        self.query_one("#log-rows", Rows).action_jump(-1)
        self.redraw()

    @on(Rows.Selected)
    def _open(self, message: Rows.Selected) -> None:
        if self.snapshot is not None:
            self.app.push_screen(Detail.of_log(as_log_row(message.row, self.snapshot), self.snapshot))

    def _line(self, row: EventRecord | LogRow, width: int) -> Text:
        return log_line(as_log_row(row, self.snapshot), width, self.palette) if self.snapshot else Text("", end="")
