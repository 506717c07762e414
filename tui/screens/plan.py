"""The plan's text, with marks at what runs."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from ..views.glance import Glance
from ..views.highlight import highlighted
from ..views.line import cells
from ..views.marks import marker
from ..views.plan import PlanLine, plan_lines
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class PlanView(View):
    """The source, highlighted; the markers of arms stand at the statements they are at."""

    KEYS = (("f", "go to what runs"), ("enter", "whole line"))
    DEFAULT_FOCUS = "#source"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f", "follow", "Go to what runs", id="plan.follow")]

    def __init__(self, id: str, text: str | None) -> None:
        super().__init__(id=id)
        self.text = text
        self._coloured: tuple[object, list[Text]] = (None, [])

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="plan-panel"):
            yield Rows(
                self._line,
                key=lambda row: row.number,
                empty="the plan's text is not at hand here",
                id="source",
            )
        with Vertical(classes="panel", id="notes-panel"):
            yield Rows(lambda row, width: cells((f" {row}"[:width], "")), empty="no notes", id="notes")

    def on_mount(self) -> None:
        self.query_one("#notes-panel").border_title = "Notes: what was filled in, what to know"

    def draw(self, glance: Glance) -> None:
        run = glance.state.run
        self.query_one("#plan-panel").border_title = f"Plan {run.path}" if run else "Plan"
        lines = plan_lines(self.text, glance) if self.text else []
        self.query_one("#source", Rows).show(lines)
        notes = self.query_one("#notes", Rows)
        notes.show(glance.state.notes)
        self.query_one("#notes-panel").display = bool(glance.state.notes)

    def action_follow(self) -> None:
        rows: list[PlanLine] = list(self.query_one("#source", Rows).rows)
        marked = [row.number for row in rows if row.arms]
        if marked:
            self.query_one("#source", Rows).select(marked[0])

    @on(Rows.Chosen, "#source")
    def _open(self, message: Rows.Chosen) -> None:
        row: PlanLine = message.row
        self.app.push_screen(Detail(f"Line {row.number}", row.text.strip()))

    @on(Rows.Chosen, "#notes")
    def _open_note(self, message: Rows.Chosen) -> None:
        self.app.push_screen(Detail("Note", str(message.row)))

    def _line(self, row: PlanLine, width: int) -> Text:
        palette = self.palette
        if self._coloured[0] != (self.text, palette):
            self._coloured = ((self.text, palette), highlighted(self.text or "", palette))
        line = cells(
            ("".join(marker(place) for place in row.arms[:3]).rjust(3), palette.arm(row.arms[0]) if row.arms else ""),
            ("▶" if row.arms else " ", f"bold {palette.accent}"),
            (f"{row.number:4} ", palette.dim),
        )
        coloured = self._coloured[1]
        if row.number <= len(coloured):
            line.append_text(coloured[row.number - 1])
        line.truncate(width, overflow="ellipsis")
        return line
