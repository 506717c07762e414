"""Everything that happened, to be searched."""

from __future__ import annotations

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from tickdsl.records import Record

from ..views.glance import Glance
from ..views.log import LogRow, in_words, log_line, log_rows
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class LogView(View):
    """The events of note, newest last; it goes along with the end until the cursor leaves it."""

    KEYS = (("enter", "whole message"), ("G", "to the end"))
    DEFAULT_FOCUS = "#log-rows"
    last_words: tuple[str, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="log-panel"):
            yield Rows(
                self._line,
                follow=True,
                empty="nothing has happened, or nothing that the filter wants",
                id="log-rows",
            )

    def draw(self, glance: Glance) -> None:
        rows = log_rows(glance, self.last_words)
        self.query_one("#log-panel").border_title = f"Log: {len(rows)} lines"
        self.query_one("#log-rows", Rows).show(rows)

    def reset(self) -> None:
        self.query_one("#log-rows", Rows).action_jump(-1)
        self.again()

    @on(Rows.Chosen)
    def _open(self, message: Rows.Chosen) -> None:
        if self.glance is not None:
            self.app.push_screen(Detail.of_log(in_words(message.row, self.glance), self.glance))

    def _line(self, row: Record | LogRow, width: int) -> Text:
        return log_line(in_words(row, self.glance), width, self.palette) if self.glance else Text("", end="")
