"""The layers screen: what remains of each layer, round by round."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from ..views.layers import (
    LayerRow,
    LayerSelection,
    Layout,
    available_selections,
    heading,
    layer_line,
    layer_rows,
    layout,
    nearest_selection,
    step_round,
    title,
    totals,
    weights_chart,
)
from ..views.snapshot import Snapshot
from ..views.text_cells import styled_line
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .view import View

_NEWEST = 10**9  # larger than any round


class LayersView(View):
    """One row per layer of the selected network; follows the latest round until a round is selected."""

    KEYS = ((", .", "round"), ("← →", "arm"), ("n", "seed"), ("c", "contestant"))
    DEFAULT_FOCUS = "#layer-rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma", "round(-1)", "Previous round", id="layers.round-before"),
        Binding("full_stop", "round(1)", "Next round", id="layers.round-next"),
        Binding("left,h", "arm(-1)", "Previous arm", id="layers.arm-before"),
        Binding("right,l", "arm(1)", "Next arm", id="layers.arm-next"),
        Binding("n", "seed", "Next seed", id="layers.seed"),
        Binding("c", "contestant", "Next contestant", id="layers.contestant"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.selection = LayerSelection("", "ticket", _NEWEST, 0)
        self.options: list[LayerSelection] = []
        self.shown: LayerSelection | None = None
        self._colour = ""
        self._cached_layout: tuple[object, Layout] = (None, layout((), 0))

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="layers-panel"):
            yield Line(id="layers-title")
            yield Line(id="layers-heading", classes="heading")
            yield Rows(
                self._line,
                key=lambda row: row.path,
                placeholder_text="no network or measurement yet",
                id="layer-rows",
            )
        yield Chart(id="rounds", classes="panel")

    def on_mount(self) -> None:
        self.query_one("#layers-panel").border_title = "Layers"

    def draw(self, snapshot: Snapshot) -> None:
        self.options, self.shown = self._resolve_selection(snapshot)
        shown = self.shown
        self._colour = self.palette.arm(snapshot.arm_indices.get(shown.arm, 0) if shown else 0)
        rows = layer_rows(snapshot, shown) if shown else []
        rounds = sorted({option.level for option in self.options})
        totals_text = f"   {totals(rows)}" if rows else ""
        round_dots = " ".join("●" if shown and level == shown.level else "·" for level in rounds)
        title_text = f" {title(shown, snapshot.arm_name(shown.arm))}" if shown else " no network yet"

        def headline(width: int) -> Text:
            marks = f"   {round_dots}" if len(title_text) + len(round_dots) + 3 < width else ""
            more = totals_text if len(title_text) + len(marks) + len(totals_text) < width else ""
            return styled_line((title_text, "bold"), (marks, self._colour), (more, self.palette.dim))

        self.query_one("#layers-title", Line).show(headline)
        self.query_one("#layers-heading", Line).show(
            lambda width: styled_line((heading(rows, width), self.palette.dim))
        )
        layers = self.query_one("#layer-rows", Rows)
        layers.show(rows)
        self.fit_panel("#layers-panel", len(rows) + 2, Chart)
        if shown:
            self.query_one(Chart).show(weights_chart(snapshot, shown, self.palette))
        layers.refresh()

    def show_arm(self, arm: str) -> None:
        """Select an arm."""
        self.selection = attrs.evolve(self.selection, arm=arm)
        self.redraw()

    def reset(self) -> None:
        self.selection = LayerSelection("", "ticket", _NEWEST, 0)
        self.redraw()

    def action_round(self, delta: int) -> None:
        self._move(lambda options, now: step_round(options, now, delta))

    def action_arm(self, delta: int) -> None:
        if self.snapshot is not None and self.shown is not None:
            arms = self._arms(self.snapshot)
            self.show_arm(arms[(arms.index(self.shown.arm) + delta) % len(arms)])

    def action_seed(self) -> None:
        self._cycle("seed")

    def action_contestant(self) -> None:
        self._cycle("contestant")

    def _cycle(self, field: str) -> None:
        def next_of(options: list[LayerSelection], now: LayerSelection) -> LayerSelection:
            at_level = [option for option in options if option.level == now.level]
            values = list(dict.fromkeys(getattr(option, field) for option in at_level))
            if getattr(now, field) not in values:
                return now
            value = values[(values.index(getattr(now, field)) + 1) % len(values)]
            matching = [option for option in at_level if getattr(option, field) == value]
            return nearest_selection(matching, attrs.evolve(now, **{field: value}))

        self._move(next_of)

    def _move(self, step: Callable[[list[LayerSelection], LayerSelection], LayerSelection]) -> None:
        if self.shown is not None and self.options:
            self.selection = step(self.options, self.shown)
            self.redraw()

    def _arms(self, snapshot: Snapshot) -> list[str]:
        return [arm for arm in snapshot.arm_indices if arm in snapshot.state.networks]

    def _resolve_selection(self, snapshot: Snapshot) -> tuple[list[LayerSelection], LayerSelection | None]:
        """The available selections of the selected arm, and the one nearest to the current selection."""
        arms = self._arms(snapshot)
        if not arms:
            return [], None
        arm = self.selection.arm if self.selection.arm in arms else arms[0]
        wanted = attrs.evolve(self.selection, arm=arm)
        options = available_selections(snapshot, arm)
        return options, nearest_selection(options, wanted) if options else LayerSelection(arm, "dense", 0, wanted.seed)

    def _line(self, row: LayerRow, width: int) -> Text:
        rows = self.query_one("#layer-rows", Rows).rows
        if self._cached_layout[0] != (rows, width):
            self._cached_layout = ((rows, width), layout(rows, width))
        return layer_line(row, self._cached_layout[1], self.palette)
