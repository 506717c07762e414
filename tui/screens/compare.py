"""Arms side by side, and the Pareto view."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from tickdsl.results.figures import remark

from ..views.compare import COSTS, compare_line, compare_rows, heading, picture, selections
from ..views.figures import within
from ..views.glance import Glance
from ..views.line import cells
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .view import View


class CompareView(View):
    """A table of arms at one ticket each over the Pareto view; on low terminals `v` turns from one to the other."""

    KEYS = ((", .", "which ticket"), ("v", "Pareto view"), ("l", "log scale"), ("r", "rivals"), ("enter", "layers"))
    DEFAULT_FOCUS = "#compare-rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma", "select(-1)", "Ticket before", id="compare.before"),
        Binding("full_stop", "select(1)", "Next ticket", id="compare.next"),
        Binding("v", "view", "Pareto view: parameters, MACs", id="compare.view"),
        Binding("l", "log_scale", "Logarithmic scale", id="compare.log-scale"),
        Binding("r", "rivals", "Rivals in the table", id="compare.rivals"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.selection, self.cost, self.log_scale, self.rivals = 0, 0, True, True
        self.pareto = False

    _both = False  # table and chart are both seen

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="compare-panel"):
            yield Line(id="compare-heading", classes="heading")
            yield Rows(
                lambda row, width: compare_line(row, width, self.palette),
                key=lambda row: (row.arm, row.contestant),
                empty="nothing is measured yet",
                id="compare-rows",
            )
        yield Chart(id="pareto", classes="panel")

    def draw(self, glance: Glance) -> None:
        options = selections(glance)
        chosen = options[min(self.selection, len(options) - 1)]
        panel = self.query_one("#compare-panel")
        rows = compare_rows(glance, chosen, self.rivals)
        said = f" · winning: at most {within(glance.state.within)} below dense" if glance.state.within else ""
        said += " · ~ estimated" if remark(glance.asked) else ""
        panel.border_title = f"Compare: {chosen}"
        panel.border_subtitle = f"* best · ★ Pareto front · ± 95 % interval{said}"
        both = self.fit_list("#compare-panel", len(rows) + 1, Chart)
        self.query_one(Chart).display = both or self.pareto
        panel.display = both or not self.pareto
        self._both = both
        self.query_one("#compare-heading", Line).show(lambda width: cells((heading(width, rows), self.palette.dim)))
        self.query_one("#compare-rows", Rows).show(rows)
        self.query_one(Chart).show(picture(glance, self.cost, self.log_scale, self.palette))

    def take_focus(self) -> None:
        panel = self.query_one("#compare-panel")
        (self.query_one("#compare-rows") if panel.display else self.query_one(Chart)).focus()

    def reset(self) -> None:
        self.selection, self.cost, self.log_scale, self.rivals = 0, 0, True, True
        self.pareto = False
        self.again()

    def action_select(self, by: int) -> None:
        if self.glance is not None:
            self.selection = (self.selection + by) % len(selections(self.glance))
            self.again()

    def action_view(self) -> None:
        """Table, then each cost of the Pareto view in turn; where both are seen, the cost changes."""
        if self._both:
            self.cost = (self.cost + 1) % len(COSTS)
        elif not self.pareto:
            self.cost, self.pareto = 0, True
        elif self.cost + 1 < len(COSTS):
            self.cost += 1
        else:
            self.pareto = False
        self.again()
        self.take_focus()

    def action_log_scale(self) -> None:
        self.log_scale = not self.log_scale
        self.again()

    def action_rivals(self) -> None:
        self.rivals = not self.rivals
        self.again()

    @on(Rows.Chosen)
    def _open(self, message: Rows.Chosen) -> None:
        monitor: Any = self.app
        monitor.show_layers(message.row.arm)
