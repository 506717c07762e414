"""Everything that happened, to be searched."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from ..views.glance import Glance
from ..views.log import log_line, log_rows
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
                lambda row, width: log_line(row, width, self.palette),
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
            self.app.push_screen(Detail.of_log(message.row, self.glance))
