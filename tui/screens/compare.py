"""The compare screen: a table of all arms, and a Pareto chart."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tickdsl.results.answers import answers
from tickdsl.results.conclusions import dependences
from tickdsl.results.extra_metrics import estimation_note
from tickdsl.results.scores import margins

from ..views.compare import compare_line, compare_rows, heading, selections
from ..views.pareto import available_costs, pareto_chart
from ..views.snapshot import Snapshot
from ..views.text_cells import styled_line
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .view import View


class CompareView(View):
    """A table of one ticket per arm above a Pareto chart; if there is no room for both, `v` switches between them."""

    KEYS = ((", .", "ticket"), ("v", "Pareto chart"), ("l", "log scale"), ("r", "controls"), ("enter", "layers"))
    DEFAULT_FOCUS = "#compare-rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma", "select(-1)", "Previous ticket", id="compare.before"),
        Binding("full_stop", "select(1)", "Next ticket", id="compare.next"),
        Binding("v", "view", "Pareto chart: parameters, MACs", id="compare.view"),
        Binding("l", "log_scale", "Logarithmic scale", id="compare.log-scale"),
        Binding("r", "controls", "Show or hide controls in the table", id="compare.controls"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.selection, self.cost, self.log_scale, self.controls = 0, 0, True, True
        self.pareto = False

    _both_shown = False  # whether table and chart are both visible

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="compare-panel"):
            yield Line(id="compare-heading", classes="heading")
            yield Rows(
                lambda row, width: compare_line(row, width, self.palette),
                key=lambda row: (row.arm, row.contestant),
                placeholder_text="no measurements yet",
                id="compare-rows",
            )
        yield Chart(id="pareto", classes="panel")
        with VerticalScroll(id="answers-panel", classes="panel", can_focus=False):
            yield Static(id="answers", markup=False)

    def draw(self, snapshot: Snapshot) -> None:
        self._show_answers(snapshot)
        options = selections(snapshot)
        selection = options[min(self.selection, len(options) - 1)]
        panel = self.query_one("#compare-panel")
        rows = compare_rows(snapshot, selection, self.controls)
        within = snapshot.state.within
        legend = f" · winning: {margins(snapshot.metrics, within)}" if within else ""
        legend += " · ~ estimated" if estimation_note(snapshot.extra_values) else ""
        panel.border_title = Content(f"Compare: {selection}")
        panel.border_subtitle = f"* best · ★ Pareto front · ± 95% interval{legend}"
        both_shown = self.fit_panel("#compare-panel", len(rows) + 1, Chart)
        self.query_one(Chart).display = both_shown or self.pareto
        panel.display = both_shown or not self.pareto
        self._both_shown = both_shown
        self.query_one("#compare-heading", Line).show(
            lambda width: styled_line((heading(width, rows), self.palette.dim))
        )
        self.query_one("#compare-rows", Rows).show(rows)
        self.query_one(Chart).show(pareto_chart(snapshot, self.cost, self.log_scale, self.palette))

    _answered: object = None

    def _show_answers(self, snapshot: Snapshot) -> None:
        """Answer which of two arms is better, for each pair that the plan compares; then say whose seeds are linked."""
        if self._answered is snapshot.standings:
            return
        self._answered = snapshot.standings
        found = answers(snapshot.state)
        linked = dependences(snapshot.state) if snapshot.standings else {}
        sentences = [*found, *(f"{', '.join(arms)}: {clause}" for clause, arms in linked.items())]
        panel = self.query_one("#answers-panel")
        panel.display = bool(sentences)
        panel.border_title = "Arm against arm" if found else "Seeds"
        names = ", ".join(name for arms in linked.values() for name in arms)
        panel.border_subtitle = Content(f"seeds are not independent: {names}" if linked else "")
        self.query_one("#answers", Static).update("\n".join(f" {sentence}" for sentence in sentences))

    def take_focus(self) -> None:
        panel = self.query_one("#compare-panel")
        (self.query_one("#compare-rows") if panel.display else self.query_one(Chart)).focus()

    def reset(self) -> None:
        self.selection, self.cost, self.log_scale, self.controls = 0, 0, True, True
        self.pareto = False
        self.redraw()

    def action_select(self, delta: int) -> None:
        if self.snapshot is not None:
            self.selection = (self.selection + delta) % len(selections(self.snapshot))
            self.redraw()

    def action_view(self) -> None:
        """Show the table, then the Pareto chart for each cost; if both are visible, change the cost."""
        costs = available_costs(self.snapshot) if self.snapshot is not None else [0]
        if self._both_shown:
            self.cost = next((cost for cost in costs if cost > self.cost), costs[0])
        elif not self.pareto:
            self.cost, self.pareto = costs[0], True
        elif self.cost < costs[-1]:
            self.cost = next(cost for cost in costs if cost > self.cost)
        else:
            self.pareto = False
        self.redraw()
        self.take_focus()

    def action_log_scale(self) -> None:
        self.log_scale = not self.log_scale
        self.redraw()

    def action_controls(self) -> None:
        self.controls = not self.controls
        self.redraw()

    @on(Rows.Selected)
    def _open(self, message: Rows.Selected) -> None:
        monitor: Any = self.app
        monitor.show_layers(message.row.arm)
