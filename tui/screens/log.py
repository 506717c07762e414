"""Everything that happened, to be searched."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from tickdsl.records import EventRecord

from ..views.log import LogRow, as_log_row, log_line, log_rows
from ..views.snapshot import Snapshot
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class LogView(View):
    """The events of note, newest last; it goes along with the end until the cursor leaves it."""

    KEYS = (("enter", "whole message"), ("G", "to the end"))
    DEFAULT_FOCUS = "#log-rows"
    engine_log_tail: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="log-panel"):
            yield Rows(
                self._line,
                follow=True,
                placeholder_text="nothing has happened, or nothing that the filter wants",
                id="log-rows",
            )

    def draw(self, snapshot: Snapshot) -> None:
        rows = log_rows(snapshot, self.engine_log_tail)
        self.query_one("#log-panel").border_title = f"Log: {len(rows)} lines"
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
