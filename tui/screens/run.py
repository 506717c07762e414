"""The first screen: steps, arms, a chart, the last lines of the log."""

from __future__ import annotations

from typing import Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from tickdsl.records import Record

from ..views import curves
from ..views.arms import ArmRow, arm_line, arm_rows
from ..views.arms import heading as arms_heading
from ..views.glance import Glance
from ..views.line import cells
from ..views.log import LogRow, in_words, log_line, log_rows
from ..views.outline import Path
from ..views.status import load_line
from ..views.tree import Folding, TreeRow, counted, failed_path, parent_of, running_path, tree_line, tree_rows
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .detail import Detail
from .view import View


class RunView(View):
    """Steps left, arms and chart right, log below. Narrow: one column, in which `[` brings the steps up."""

    KEYS = (("v", "metric"), ("l", "log scale"), ("[", "steps"), ("enter", "open"), ("r", "rivals"))
    DEFAULT_FOCUS = "#tree"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "next_metric", "Next metric", id="run.metric"),
        Binding("l", "log_scale", "Logarithmic scale", id="run.log-scale"),
        Binding("r", "rivals", "Rivals in the chart", id="run.rivals"),
        Binding("left_square_bracket", "hide('left')", "Hide or show the steps", id="run.left"),
        Binding("right_square_bracket", "hide('right')", "Hide or show arms and chart", id="run.right"),
        Binding("right", "fold(True)", "Open", id="run.unfold"),
        Binding("left,h", "fold(False)", "Close", id="run.fold"),
        Binding("f", "follow", "Follow what runs", id="run.follow"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.metric = 0
        self.log_scale = {0: True, 1: True}
        self.rivals = False
        self.folding = Folding()
        self.chosen: tuple[str, ...] = ()
        self._followed: Path | None = None
        self._roaming = False  # a person moved the cursor: it is not taken along any more

    def compose(self) -> ComposeResult:
        with Horizontal(id="upper"):
            with Vertical(id="left", classes="panel"):
                yield Rows(
                    lambda row, width: tree_line(row, width, self.palette),
                    key=lambda row: row.path,
                    empty="the steps come with the plan",
                    id="tree",
                )
            with Vertical(id="right"):
                with Vertical(id="arms-panel", classes="panel"):
                    yield Line(id="arms-heading", classes="heading")
                    yield Rows(
                        lambda row, width: arm_line(row, width, self.palette),
                        key=lambda row: row.id,
                        empty="no arm yet",
                        id="arms",
                    )
                yield Chart(id="chart", classes="panel")
        with Vertical(id="tail-panel", classes="panel"):
            yield Rows(self._log_line, follow=True, empty="silence", id="tail")
        yield Line(id="load")

    def on_mount(self) -> None:
        self.query_one("#left").border_title = "Steps"
        self.query_one("#arms-panel").border_title = "Arms"
        self.query_one("#tail-panel").border_title = "Log"

    def draw(self, glance: Glance) -> None:
        tree = self.query_one("#tree", Rows)
        if not self._roaming and (running := running_path(glance)) is not None and running != self._followed:
            self._followed = running
            tree.show(tree_rows(glance, self.folding))
            tree.select(running)
        else:
            tree.show(tree_rows(glance, self.folding))
        said = " ".join(f"{number} {status}" for status, number in counted(glance.state))
        self.query_one("#left").border_subtitle = said
        arms = arm_rows(glance)
        self.query_one("#arms", Rows).show(arms)
        if not self._roaming and self._followed is not None:
            self.query_one("#arms", Rows).select(self._followed[0])
        of = f" {len(arms)} of {len(glance.state.arms)}" if glance.words else ""
        self.query_one("#arms-panel").border_title = f"Arms{of}"
        base = self.app.screen_stack[0]
        chrome = (1 if base.has_class("-narrow") else 2) + (not base.has_class("-short"))
        self.query_one("#arms-panel").styles.max_height = max(1, len(arms)) + chrome
        self.query_one("#arms-heading", Line).show(lambda width: cells((arms_heading(width), self.palette.dim)))
        log = self.log_scale.get(self.metric, False)
        self.query_one(Chart).show(curves.picture(glance, self.metric, log, self.rivals, self.palette, self.chosen))
        self.query_one("#tail", Rows).show(log_rows(glance, self.last_words, 200))
        self.query_one("#load", Line).show(lambda width: load_line(glance.load, width, self.palette))

    last_words: tuple[str, ...] = ()

    def show_failure(self, glance: Glance) -> None:
        """Go to the step that failed last, and to the end of the log."""
        path = failed_path(glance)
        if path is None:
            return
        self._roaming = True
        self.remove_class("no-left")
        self.set_class(self.app.screen_stack[0].has_class("-narrow"), "steps-first")
        for depth in (1, 2, 3):
            self.folding = self.folding.toggle(path[:depth], True)
        tree = self.query_one("#tree", Rows)
        tree.show(tree_rows(glance, self.folding))
        tree.select(path)
        tree.focus()

    def take_focus(self) -> None:
        if self.app.screen_stack[0].has_class("-narrow"):
            steps = self.has_class("steps-first")
        else:
            steps = not self.has_class("no-left")
        self.query_one("#tree" if steps else "#arms").focus()

    def reset(self) -> None:
        self.metric, self.log_scale, self.rivals = 0, {0: True, 1: True}, False
        self.folding, self.chosen = Folding(), ()
        self._roaming, self._followed = False, None
        self.remove_class("no-left", "no-right", "steps-first")
        self.again()

    def action_next_metric(self) -> None:
        self.metric = (self.metric + 1) % len(curves.METRICS)
        self.again()

    def action_log_scale(self) -> None:
        self.log_scale = {**self.log_scale, self.metric: not self.log_scale.get(self.metric, False)}
        self.again()

    def action_rivals(self) -> None:
        self.rivals = not self.rivals
        self.again()

    def action_hide(self, side: str) -> None:
        """Hide a side or show it again; one of the two is always there."""
        if self.app.screen.has_class("-narrow"):
            self.set_class(not self.has_class("steps-first"), "steps-first")
            self.take_focus()
            return
        other = "right" if side == "left" else "left"
        self.toggle_class(f"no-{side}")
        self.remove_class(f"no-{other}")
        self.take_focus()

    def action_follow(self) -> None:
        self._roaming, self._followed = False, None
        self.again()

    def action_fold(self, to: bool) -> None:
        """Open or close the row of the tree; a closed one closes what holds it."""
        row = self.query_one("#tree", Rows).row
        if row is None:
            return
        path = row.path
        if not to and not row.open:
            path = parent_of(path)
        self.folding = self.folding.toggle(path, to)
        self.again()
        self.query_one("#tree", Rows).select(path)

    @on(Rows.Moved, "#tree")
    def _look_at(self, message: Rows.Moved) -> None:
        self._roaming = True
        row: TreeRow = message.row
        self.chosen = (str(row.path[3]),) if len(row.path) == 4 else ()
        if self.metric >= 3:
            self.again()

    @on(Rows.Chosen, "#tree")
    def _open(self, message: Rows.Chosen) -> None:
        row: TreeRow = message.row
        if row.open is not None:
            self.action_fold(not row.open)
        elif self.glance is not None:
            self.app.push_screen(Detail.of_step(str(row.path[3]), self.glance))

    @on(Rows.Moved, "#arms")
    def _stay(self, message: Rows.Moved) -> None:
        self._roaming = True

    @on(Rows.Chosen, "#arms")
    def _open_arm(self, message: Rows.Chosen) -> None:
        row: ArmRow = message.row
        monitor: Any = self.app
        monitor.show_layers(row.id)

    @on(Rows.Chosen, "#tail")
    def _open_line(self, message: Rows.Chosen) -> None:
        if self.glance is not None:
            self.app.push_screen(Detail.of_log(in_words(message.row, self.glance), self.glance))

    def _log_line(self, row: Record | LogRow, width: int) -> Text:
        return log_line(in_words(row, self.glance), width, self.palette) if self.glance else Text("", end="")
