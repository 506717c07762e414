"""Columns and cells of the rounds table, and which of them a narrow terminal leaves out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

import attrs
from rich.text import Text

from tickdsl.records.events import ArmInfo, MetricInfo
from tickdsl.results import formatting, scores
from tickdsl.results.budgets import Budget
from tickdsl.results.scores import ACCURACY
from tickdsl.results.standings import LOSING, UNDECIDED, WINNING, Standing

BEST_MARK = "*"
#: Longer names of metrics are wrapped.
_HEADING_WIDTH = 18
_COLOURS = {WINNING: "green", LOSING: "red", UNDECIDED: "yellow"}

# What a narrow terminal leaves out, in this order; everything else is always shown.
OPTIONAL_PARTS = (
    "training time", "epochs trained", "sparsity", "budget", "control intervals", "MACs", "difference intervals",
    "params", "controls", "score intervals", "seeds",
)  # fmt: skip
ShownParts = frozenset[str]
#: From the widest layout to the narrowest.
LAYOUTS: tuple[ShownParts, ...] = tuple(frozenset(OPTIONAL_PARTS[n:]) for n in range(len(OPTIONAL_PARTS) + 1))
CellFormat = Callable[[Standing], str]


@attrs.frozen
class BudgetColumn:
    """A column on the training that led to a network, and the part of the layout that it belongs to.

    heading: with `{samples}` for what the inputs are called.
    """

    part: str
    heading: str
    cell: Callable[[Budget], str]


BUDGET_COLUMNS = (
    BudgetColumn("epochs trained", "epochs\ntrained", lambda budget: f"{budget.epochs:.4g}"),
    BudgetColumn("budget", "{samples}\nseen", lambda budget: formatting.count(budget.images)),
    BudgetColumn(
        "training time",
        "time in\nall",
        lambda budget: "–" if budget.seconds is None else formatting.training_time(budget.seconds),
    ),
)


def units_left(arm: ArmInfo, standings: Iterable[Standing | None]) -> list[str]:
    """The units of which the table of an arm shows what is left, besides weights: filters, and those that it prunes."""
    known = [standing for standing in standings if standing is not None]
    filters = ["filters"] if any(standing.filters not in (None, 1.0) for standing in known) else []
    return filters + [unit for unit in arm.units if any(unit in standing.units for standing in known)]


def unit_left(standing: Standing, unit: str) -> str:
    """The share that is left of a unit."""
    return formatting.percent(standing.filters if unit == "filters" else standing.units.get(unit))


def _left(unit: str) -> tuple[bool, str, CellFormat]:
    return True, f"{unit}\nleft", lambda standing: unit_left(standing, unit)


def round_columns(
    shown: ShownParts,
    best_ticket: Standing | None,
    report: Sequence[str],
    metric: MetricInfo = ACCURACY,
    units: Sequence[str] = (),
) -> list[tuple[str, CellFormat]]:
    """The (heading, cell format) pairs that are shown; without `report`, all but loss and training time.

    `units` are those of which the table shows what is left, besides weights.
    """
    metrics = report or ("sparsity", "params", "flops")

    def score(standing: Standing) -> str:
        return scores.score(metric, standing.score, "score intervals" in shown) + (
            BEST_MARK if standing is best_ticket else " "
        )

    columns: list[tuple[bool, str, CellFormat]] = [
        (True, "round", lambda s: str(s.level)),
        ("seeds" in shown, "n", lambda s: formatting.seeds(s.n, s.of_seeds)),
        ("sparsity" in shown and "sparsity" in metrics, "sparsity", lambda s: formatting.percent(s.sparsity)),
        (True, "weights\nleft", lambda s: formatting.percent(s.density)),
        *map(_left, units),
        ("params" in shown and "params" in metrics, "params", lambda s: formatting.count(s.params)),
        ("MACs" in shown and "flops" in metrics, "MACs", lambda s: formatting.count(s.macs)),
        (
            "train-time" in metrics,
            "train\ntime",
            lambda s: "" if s.seconds is None else formatting.format_duration(s.seconds),
        ),
        ("loss" in metrics, "test\nloss", lambda s: "" if s.loss is None else f"{s.loss:.4f}"),
        (True, _score_heading(metric), score),
        (
            True,
            "\n".join(filter(None, ("vs. dense", scores.difference_unit(metric)))),
            lambda s: _difference(s, "difference intervals" in shown),
        ),
    ]
    return [(heading, cell) for wanted, heading, cell in columns if wanted]


def _score_heading(metric: MetricInfo) -> str:
    """The name of the metric and its unit, above values that end with a mark or a blank."""
    unit = "%" if metric.is_share else metric.unit
    lines = textwrap.wrap(f"{scores.label(metric)}{scores.arrow(metric)}", _HEADING_WIDTH)
    return "\n".join([*lines, unit]).rstrip("\n") + " "


def _difference(standing: Standing, interval: bool) -> str:
    if standing.contestant == "dense":
        return ""
    return scores.difference(standing.metric, standing.to_dense, interval, standing.scale)


def verdict_cell(standing: Standing | None) -> Text:
    """The verdict in its colour; empty for dense, a dash if there is none."""
    if standing is None or standing.contestant == "dense":
        return Text("")
    return Text(standing.verdict or "–", style=_COLOURS.get(standing.verdict or "", ""))


def control_cell(standing: Standing | None, shown: ShownParts) -> Text:
    """The score of a control; empty if it was not measured."""
    if standing is None:
        return Text("")
    return Text(scores.score(standing.metric, standing.score, "control intervals" in shown))
