"""What is left of every layer, round by round."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from ..views.glance import Glance
from ..views.layers import (
    Choice,
    LayerRow,
    Layout,
    choices,
    heading,
    layer_line,
    layer_rows,
    layout,
    nearest,
    over_rounds,
    step_choice,
    title,
    totals,
)
from ..views.line import cells
from ..widgets.chart import Chart
from ..widgets.line import Line
from ..widgets.rows import Rows
from .view import View

_NEWEST = 10**9  # a round further than any


class LayersView(View):
    """One row per layer of the chosen network; it goes along with the newest round until one is chosen."""

    KEYS = ((", .", "round"), ("← →", "arm"), ("n", "seed"), ("c", "contestant"))
    DEFAULT_FOCUS = "#layer-rows"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma", "round(-1)", "Round before", id="layers.round-before"),
        Binding("full_stop", "round(1)", "Next round", id="layers.round-next"),
        Binding("left,h", "arm(-1)", "Arm before", id="layers.arm-before"),
        Binding("right,l", "arm(1)", "Next arm", id="layers.arm-next"),
        Binding("n", "seed", "Next seed", id="layers.seed"),
        Binding("c", "contestant", "Next contestant", id="layers.contestant"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.choice = Choice("", "ticket", _NEWEST, 0)
        self.options: list[Choice] = []
        self.shown: Choice | None = None
        self._colour = ""
        self._laid_out: tuple[object, Layout] = (None, layout((), 0))

    def compose(self) -> ComposeResult:
        with Vertical(classes="panel", id="layers-panel"):
            yield Line(id="layers-title")
            yield Line(id="layers-heading", classes="heading")
            yield Rows(
                self._line,
                key=lambda row: row.path,
                empty="the layers come with the network and with the first measurement",
                id="layer-rows",
            )
        yield Chart(id="rounds", classes="panel")

    def on_mount(self) -> None:
        self.query_one("#layers-panel").border_title = "Layers"

    def draw(self, glance: Glance) -> None:
        self.options, self.shown = self._find(glance)
        shown = self.shown
        self._colour = self.palette.arm(glance.places.get(shown.arm, 0) if shown else 0)
        rows = layer_rows(glance, shown) if shown else []
        rounds = sorted({option.level for option in self.options})
        said = f"   {totals(rows)}" if rows else ""
        steps = " ".join("●" if shown and level == shown.level else "·" for level in rounds)
        whose = f" {title(shown)}" if shown else " no network yet"

        def headline(width: int) -> Text:
            marks = f"   {steps}" if len(whose) + len(steps) + 3 < width else ""
            more = said if len(whose) + len(marks) + len(said) < width else ""
            return cells((whose, "bold"), (marks, self._colour), (more, self.palette.dim))

        self.query_one("#layers-title", Line).show(headline)
        self.query_one("#layers-heading", Line).show(lambda width: cells((heading(rows, width), self.palette.dim)))
        layers = self.query_one("#layer-rows", Rows)
        layers.show(rows)
        self.fit_list("#layers-panel", len(rows) + 2, Chart)
        if shown:
            self.query_one(Chart).show(over_rounds(glance, shown, self.palette))
        layers.refresh()

    def show_arm(self, arm: str) -> None:
        """Look at this arm."""
        self.choice = attrs.evolve(self.choice, arm=arm)
        self.again()

    def reset(self) -> None:
        self.choice = Choice("", "ticket", _NEWEST, 0)
        self.again()

    def action_round(self, by: int) -> None:
        self._move(lambda options, now: step_choice(options, now, by))

    def action_arm(self, by: int) -> None:
        if self.glance is not None and self.shown is not None:
            arms = self._arms(self.glance)
            self.show_arm(arms[(arms.index(self.shown.arm) + by) % len(arms)])

    def action_seed(self) -> None:
        self._cycle("seed")

    def action_contestant(self) -> None:
        self._cycle("contestant")

    def _cycle(self, field: str) -> None:
        def next_of(options: list[Choice], now: Choice) -> Choice:
            here = [option for option in options if option.level == now.level]
            values = list(dict.fromkeys(getattr(option, field) for option in here))
            if getattr(now, field) not in values:
                return now
            value = values[(values.index(getattr(now, field)) + 1) % len(values)]
            fitting = [option for option in here if getattr(option, field) == value]
            return nearest(fitting, attrs.evolve(now, **{field: value}))

        self._move(next_of)

    def _move(self, step: Callable[[list[Choice], Choice], Choice]) -> None:
        if self.shown is not None and self.options:
            self.choice = step(self.options, self.shown)
            self.again()

    def _arms(self, glance: Glance) -> list[str]:
        return [arm for arm in glance.places if arm in glance.state.networks]

    def _find(self, glance: Glance) -> tuple[list[Choice], Choice | None]:
        """What there is of the chosen arm, and what comes nearest to the choice."""
        arms = self._arms(glance)
        if not arms:
            return [], None
        arm = self.choice.arm if self.choice.arm in arms else arms[0]
        wanted = attrs.evolve(self.choice, arm=arm)
        options = choices(glance, arm)
        return options, nearest(options, wanted) if options else Choice(arm, "dense", 0, wanted.seed)

    def _line(self, row: LayerRow, width: int) -> Text:
        rows = self.query_one("#layer-rows", Rows).rows
        if self._laid_out[0] != (rows, width):
            self._laid_out = ((rows, width), layout(rows, width))
        return layer_line(row, self._laid_out[1], self._colour, self.palette)
