"""The run screen: steps, arms, a chart, and the last log lines."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tickdsl.records import EventRecord

from ..views import run_charts
from ..views.arms import ArmRow, arm_line, arm_rows
from ..views.arms import heading as arms_heading
from ..views.ending import ending_text, ending_title
from ..views.log import LogRow, as_log_row, log_line, log_rows
from ..views.snapshot import Snapshot
from ..views.status import load_line
from ..views.step_outline import TreePath
from ..views.text_cells import styled_line
from ..views.tree import (
    TreeExpansion,
    TreeRow,
    failed_path,
    parent_of,
    running_path,
    status_counts,
    tree_line,
    tree_rows,
)
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class RunView(View):
    """Steps on the left, arms and chart on the right, log below. In a narrow terminal, `[` switches to the steps."""

    KEYS = (("v", "metric"), ("l", "log scale"), ("[", "steps"), ("enter", "open"), ("r", "controls"))
    DEFAULT_FOCUS = "#tree"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "next_metric", "Next metric", id="run.metric"),
        Binding("l", "log_scale", "Logarithmic scale", id="run.log-scale"),
        Binding("r", "controls", "Show or hide controls in the chart", id="run.controls"),
        Binding("left_square_bracket", "hide('left')", "Show or hide the steps", id="run.left"),
        Binding("right_square_bracket", "hide('right')", "Show or hide arms and chart", id="run.right"),
        Binding("right", "fold(True)", "Expand", id="run.unfold"),
        Binding("left,h", "fold(False)", "Collapse", id="run.fold"),
        Binding("f", "follow", "Follow the running step", id="run.follow"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.metric = 0
        self.log_scale = {0: True, 1: True}
        self.controls = False
        self.expansion = TreeExpansion()
        self.selected_steps: tuple[str, ...] = ()
        self._followed_path: TreePath | None = None
        self._cursor_moved = False  # once moved by the user, the cursor no longer follows the running step

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="ending", classes="panel"):
            yield Static(id="ending-text")
        with Horizontal(id="upper"):
            with Vertical(id="left", classes="panel"):
                yield Rows(
                    lambda row, width: tree_line(row, width, self.palette),
                    key=lambda row: row.path,
                    placeholder_text="no plan yet",
                    id="tree",
                )
            with Vertical(id="right"):
                with Vertical(id="arms-panel", classes="panel"):
                    yield Line(id="arms-heading", classes="heading")
                    yield Rows(
                        lambda row, width: arm_line(row, width, self.palette),
                        key=lambda row: row.id,
                        placeholder_text="no arms yet",
                        id="arms",
                    )
                yield Chart(id="chart", classes="panel")
        with Vertical(id="tail-panel", classes="panel"):
            yield Rows(self._log_line, follow=True, placeholder_text="no events yet", id="tail")
        yield Line(id="load")

    def on_mount(self) -> None:
        self.query_one("#left").border_title = "Steps"
        self.query_one("#arms-panel").border_title = "Arms"
        self.query_one("#tail-panel").border_title = "Log"

    def draw(self, snapshot: Snapshot) -> None:
        tree = self.query_one("#tree", Rows)
        if not self._cursor_moved and (path := running_path(snapshot)) is not None and path != self._followed_path:
            self._followed_path = path
            tree.show(tree_rows(snapshot, self.expansion))
            tree.select(path)
        else:
            tree.show(tree_rows(snapshot, self.expansion))
        counts = " ".join(f"{number} {status}" for status, number in status_counts(snapshot))
        self.query_one("#left").border_subtitle = Content(counts)
        arms = arm_rows(snapshot)
        self.query_one("#arms", Rows).show(arms)
        if not self._cursor_moved and self._followed_path is not None:
            self.query_one("#arms", Rows).select(self._followed_path[0])
        matched = f" {len(arms)} of {len(snapshot.state.arms)}" if snapshot.filter_text else ""
        self.query_one("#arms-panel").border_title = f"Arms{matched}"
        base = self.app.screen_stack[0]
        chrome = (1 if base.has_class("-narrow") else 2) + (not base.has_class("-short"))
        self.query_one("#arms-panel").styles.max_height = max(1, len(arms)) + chrome
        self.query_one("#arms-heading", Line).show(
            lambda width: styled_line((arms_heading(width, snapshot.metrics), self.palette.dim))
        )
        log = self.log_scale.get(self.metric, False)
        self.query_one(Chart).show(
            run_charts.metric_chart(snapshot, self.metric, log, self.controls, self.palette, self.selected_steps)
        )
        self.query_one("#tail", Rows).show(log_rows(snapshot, self.engine_log_tail, 200))
        self._show_ending(snapshot)
        self.query_one("#load", Line).show(lambda width: load_line(snapshot.resource_history, width, self.palette))

    engine_log_tail: tuple[str, ...] = ()
    _ending_key: object = None

    def _show_ending(self, snapshot: Snapshot) -> None:
        """Show how the run ended, or that its engine crashed, in a panel that stays."""
        ended = not snapshot.is_live
        self.set_class(ended, "ended")
        monitor: Any = self.app
        report = monitor.report if ended else None
        key = (snapshot.status, len(snapshot.state.metrics), report, self.engine_log_tail, self.palette, ended)
        if key == self._ending_key:
            return
        self._ending_key = key
        self.query_one("#ending").border_title = ending_title(snapshot)
        self.query_one("#ending-text", Static).update(ending_text(snapshot, report, self.engine_log_tail, self.palette))

    def show_failure(self, snapshot: Snapshot) -> None:
        """Select the step that failed last."""
        path = failed_path(snapshot)
        if path is None:
            return
        self._cursor_moved = True
        self.remove_class("no-left")
        self.set_class(self.app.screen_stack[0].has_class("-narrow"), "steps-first")
        for depth in (1, 2, 3):
            self.expansion = self.expansion.with_expanded(path[:depth], True)
        tree = self.query_one("#tree", Rows)
        tree.show(tree_rows(snapshot, self.expansion))
        tree.select(path)
        tree.focus()

    def take_focus(self) -> None:
        if self.app.screen_stack[0].has_class("-narrow"):
            steps = self.has_class("steps-first")
        else:
            steps = not self.has_class("no-left")
        self.query_one("#tree" if steps else "#arms").focus()

    def reset(self) -> None:
        self.metric, self.log_scale, self.controls = 0, {0: True, 1: True}, False
        self.expansion, self.selected_steps = TreeExpansion(), ()
        self._cursor_moved, self._followed_path = False, None
        self.remove_class("no-left", "no-right", "steps-first")
        self.redraw()

    def action_next_metric(self) -> None:
        available = run_charts.available_metrics(self.snapshot) if self.snapshot is not None else [0]
        self.metric = next((metric for metric in available if metric > self.metric), 0)
        self.redraw()

    def action_log_scale(self) -> None:
        self.log_scale = {**self.log_scale, self.metric: not self.log_scale.get(self.metric, False)}
        self.redraw()

    def action_controls(self) -> None:
        self.controls = not self.controls
        self.redraw()

    def action_hide(self, side: str) -> None:
        """Hide or show a side; at least one is always visible."""
        if self.app.screen.has_class("-narrow"):
            self.set_class(not self.has_class("steps-first"), "steps-first")
            self.take_focus()
            return
        other = "right" if side == "left" else "left"
        self.toggle_class(f"no-{side}")
        self.remove_class(f"no-{other}")
        self.take_focus()

    def action_follow(self) -> None:
        self._cursor_moved, self._followed_path = False, None
        self.redraw()

    def action_fold(self, expand: bool) -> None:
        """Expand or collapse the selected row; collapsing a collapsed row collapses its parent."""
        row = self.query_one("#tree", Rows).row
        if row is None:
            return
        path = row.path
        if not expand and not row.open:
            path = parent_of(path)
        self.expansion = self.expansion.with_expanded(path, expand)
        self.redraw()
        self.query_one("#tree", Rows).select(path)

    @on(Rows.CursorMoved, "#tree")
    def _select_step(self, message: Rows.CursorMoved) -> None:
        self._cursor_moved = True
        row: TreeRow = message.row
        self.selected_steps = (str(row.path[3]),) if len(row.path) == 4 else ()
        if self.metric >= 3:
            self.redraw()

    @on(Rows.Selected, "#tree")
    def _open(self, message: Rows.Selected) -> None:
        row: TreeRow = message.row
        if row.open is not None:
            self.action_fold(not row.open)
        elif self.snapshot is not None:
            self.app.push_screen(Detail.of_step(str(row.path[3]), self.snapshot))

    @on(Rows.CursorMoved, "#arms")
    def _stop_following(self, message: Rows.CursorMoved) -> None:
        self._cursor_moved = True

    @on(Rows.Selected, "#arms")
    def _open_arm(self, message: Rows.Selected) -> None:
        row: ArmRow = message.row
        monitor: Any = self.app
        monitor.show_layers(row.id)

    @on(Rows.Selected, "#tail")
    def _open_line(self, message: Rows.Selected) -> None:
        if self.snapshot is not None:
            self.app.push_screen(Detail.of_log(as_log_row(message.row, self.snapshot), self.snapshot))

    def _log_line(self, row: EventRecord | LogRow, width: int) -> Text:
        return log_line(as_log_row(row, self.snapshot), width, self.palette) if self.snapshot else Text("", end="")
