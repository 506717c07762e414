"""The plan screen: the source of the plan, with the running statements marked."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content

from ..views.glyphs import arm_marker
from ..views.highlight import highlight_plan
from ..views.plan import PlanLine, plan_lines
from ..views.snapshot import Snapshot
from ..views.text_cells import fit, styled_line
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class PlanView(View):
    """The highlighted source; the marker of each arm is shown at its running statement."""

    KEYS = (("f", "running statement"), ("enter", "full line"))
    DEFAULT_FOCUS = "#source"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f", "follow", "Go to the running statement", id="plan.follow")]

    def __init__(self, id: str, text: str | None) -> None:
        super().__init__(id=id)
        self.text = text
        self._highlighted: tuple[object, list[Text]] = (None, [])

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="plan-panel"):
            yield Rows(
                self._line,
                key=lambda row: row.number,
                placeholder_text="the plan source is not available",
                id="source",
            )
        with Vertical(classes="panel", id="notes-panel"):
            yield Rows(
                lambda row, width: styled_line((fit(f" {row}", width), "")), placeholder_text="no notes", id="notes"
            )

    def on_mount(self) -> None:
        self.query_one("#notes-panel").border_title = "Notes: defaults and caveats"

    def draw(self, snapshot: Snapshot) -> None:
        run = snapshot.state.run
        self.query_one("#plan-panel").border_title = Content(f"Plan {run.path}" if run else "Plan")
        lines = plan_lines(self.text, snapshot) if self.text else []
        self.query_one("#source", Rows).show(lines)
        notes = self.query_one("#notes", Rows)
        rows = [*(f"WARNING: {alarm}" for alarm in snapshot.alarms), *snapshot.state.notes]
        notes.show(rows)
        self.query_one("#notes-panel").display = bool(rows)

    def action_follow(self) -> None:
        rows: list[PlanLine] = list(self.query_one("#source", Rows).rows)
        marked = [row.number for row in rows if row.arm_indices]
        if marked:
            self.query_one("#source", Rows).select(marked[0])

    @on(Rows.Selected, "#source")
    def _open(self, message: Rows.Selected) -> None:
        row: PlanLine = message.row
        self.app.push_screen(Detail(f"Line {row.number}", row.text.strip()))

    @on(Rows.Selected, "#notes")
    def _open_note(self, message: Rows.Selected) -> None:
        self.app.push_screen(Detail("Note", str(message.row)))

    def _line(self, row: PlanLine, width: int) -> Text:
        palette = self.palette
        if self._highlighted[0] != (self.text, palette):
            self._highlighted = ((self.text, palette), highlight_plan(self.text or "", palette))
        line = styled_line(
            (
                "".join(arm_marker(arm_index) for arm_index in row.arm_indices[:3]).rjust(3),
                palette.arm(row.arm_indices[0]) if row.arm_indices else "",
            ),
            ("▶" if row.arm_indices else " ", f"bold {palette.accent}"),
            (f"{row.number:4} ", palette.dim),
        )
        highlighted_lines = self._highlighted[1]
        if row.number <= len(highlighted_lines):
            line.append_text(highlighted_lines[row.number - 1])
        line.truncate(width, overflow="ellipsis")
        return line
