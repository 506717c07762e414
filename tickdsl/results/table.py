"""The table that a run ends with: per arm a block of rounds, and what came out in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results import formatting
from tickdsl.results.conclusions import conclusions
from tickdsl.results.extra_metrics import (
    Column,
    MeasuredValue,
    NetworkKey,
    columns_with_values,
    estimation_note,
    format_cell,
    machine_notes,
    measured_values,
)
from tickdsl.results.state import RunState
from tickdsl.results.verdict import LOSING, UNDECIDED, WINNING, Standing, caveats, compute_standings

_COLOURS = {WINNING: "green", LOSING: "red", UNDECIDED: "yellow"}
_BEST_MARK = "*"


# What a narrow terminal goes without, in this order; the rest is always shown.
_OPTIONAL_PARTS = (
    "sparsity", "rival intervals", "MACs", "difference intervals", "params", "rivals", "accuracy intervals",
)  # fmt: skip
_ShownParts = frozenset[str]
_ExtraValues = Mapping[NetworkKey, Mapping[str, MeasuredValue]]
_LAYOUTS: tuple[_ShownParts, ...] = tuple(frozenset(_OPTIONAL_PARTS[n:]) for n in range(len(_OPTIONAL_PARTS) + 1))


def print_results(state: RunState, console: Console) -> None:
    """Print the table of a run. Colours, width and the box follow the console: plain in a pipe."""
    if not state.metrics:
        console.print("no measurement was made", style="yellow")
        return
    console.print(results_table(state, console))


def results_table(state: RunState, console: Console) -> RenderableType:
    """The blocks of all arms, the sentence of each, and what the reader must know about the figures.

    All blocks have the same columns: those that fit the width of `console` for every arm.
    """
    standings, extra_values = compute_standings(state), measured_values(state)
    for shown in _LAYOUTS:
        tables = [_arm_table(arm, standings, state, shown) for arm in state.arms]
        if all(_width(table, console) <= console.width for table in tables):
            break
    sentences = conclusions(state)
    parts: list[RenderableType] = []
    for arm, table in zip(state.arms, tables, strict=True):
        parts += [Text(_title(arm), style="bold"), table, *_extra_tables(arm, extra_values, state, console)]
        parts += [Text(sentences[arm.id]), Text()]
    parts.append(Text(_legend(state, standings, extra_values), style="dim"))
    if state.status != "ok":
        parts.append(
            Text(f"note: the run is {state.status}; {state.finished_steps} of {len(state.steps)} steps are done")
        )
    parts += [Text(f"note: {note}", style="dim") for note in [*caveats(state), *machine_notes(state)]]
    content = Group(*parts)
    return content if console.encoding.startswith("utf") else _AsciiOnly(content)


def _arm_table(
    arm: ArmInfo,
    standings: Mapping[tuple[str, str, int], Standing],
    state: RunState,
    shown: _ShownParts,
) -> Table:
    rows = [
        (level, standings.get((arm.id, "dense" if level == 0 else "ticket", level)))
        for level in _levels_of(arm, standings)
    ]
    controls = [
        name
        for name in state.contestants
        if name not in ("ticket", "dense") and any(key[:2] == (arm.id, name) for key in standings)
    ]
    best_ticket = _best_ticket([standing for _, standing in rows if standing is not None])
    table = _new_table()
    columns = _columns(shown, best_ticket, state.report)
    if all(standing is None or standing.filters in (None, 1.0) for _, standing in rows):
        columns = [column for column in columns if column[0] != _FILTERS]
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=len(UNDECIDED))
    if "rivals" in shown:
        for name in controls:
            table.add_column(Text(name.replace("-", "-\n")), justify="right", no_wrap=True)
    for level, standing in rows:
        cells: list[RenderableType] = ["–" if standing is None else cell(standing) for _, cell in columns[1:]]
        cells.insert(0, "dense" if level == 0 else str(level))
        cells.append(_verdict_cell(standing))
        if "rivals" in shown:
            cells += [_control_cell(standings.get((arm.id, name, level)), shown) for name in controls]
        table.add_row(*cells, style="bold" if standing is not None and standing is best_ticket else None)
    return table


def _extra_tables(arm: ArmInfo, extra_values: _ExtraValues, state: RunState, console: Console) -> list[RenderableType]:
    """What `report` asked for of an arm: as many tables as its columns need at this width."""
    arm_values = {key: named for key, named in extra_values.items() if key[0] == arm.id}
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    keys = sorted(arm_values, key=lambda key: (key[2], order.get(key[1], len(order))))
    tables: list[RenderableType] = []
    shown: list[Column] = []
    for column in columns_with_values(arm_values):
        if shown and _width(_extra_table(keys, arm_values, [*shown, column]), console) > console.width:
            tables += [_extra_table(keys, arm_values, shown), Text()]
            shown = []
        shown.append(column)
    return [Text(), *tables, _extra_table(keys, arm_values, shown), Text()] if shown else []


def _extra_table(keys: Sequence[NetworkKey], arm_values: _ExtraValues, shown: Sequence[Column]) -> Table:
    """A row for each network: the dense one, each round's ticket, and its rivals."""
    table = _new_table()
    table.add_column("round", no_wrap=True)
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for _, contestant, level in keys:
        name = {"dense": "dense", "ticket": str(level)}.get(contestant, f"  {contestant}")
        values = arm_values[keys[0][0], contestant, level]
        dim = contestant not in ("dense", "ticket")
        table.add_row(name, *(format_cell(column, values) for column in shown), style="dim" if dim else None)
    return table


def _new_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)


_CellFormat = Callable[[Standing], str]
_FILTERS = "filters\nleft"


def _columns(shown: _ShownParts, best_ticket: Standing | None, report: Sequence[str]) -> list[tuple[str, _CellFormat]]:
    """The columns that fit and that the plan asks for; without `report`, all but loss and time."""
    metrics = report or ("sparsity", "params", "flops")

    def accuracy(standing: Standing) -> str:
        return formatting.accuracy(standing.accuracy, "accuracy intervals" in shown) + (
            _BEST_MARK if standing is best_ticket else " "
        )

    columns: list[tuple[bool, str, _CellFormat]] = [
        (True, "round", lambda s: str(s.level)),
        ("sparsity" in shown and "sparsity" in metrics, "sparsity", lambda s: formatting.percent(s.sparsity)),
        (True, "weights\nleft", lambda s: formatting.percent(s.density)),
        (True, _FILTERS, lambda s: formatting.percent(s.filters)),
        ("params" in shown and "params" in metrics, "params", lambda s: formatting.count(s.params)),
        ("MACs" in shown and "flops" in metrics, "MACs", lambda s: formatting.count(s.macs)),
        (
            "train-time" in metrics,
            "train\ntime",
            lambda s: "" if s.seconds is None else formatting.format_duration(s.seconds),
        ),
        ("loss" in metrics, "test\nloss", lambda s: "" if s.loss is None else f"{s.loss:.4f}"),
        (True, "accuracy\n% ", accuracy),
        (True, "to dense\npoints", lambda s: _difference(s, "difference intervals" in shown)),
    ]
    return [(heading, cell) for wanted, heading, cell in columns if wanted]


def _difference(standing: Standing, interval: bool) -> str:
    return "" if standing.contestant == "dense" else formatting.points(standing.to_dense, interval)


def _verdict_cell(standing: Standing | None) -> Text:
    if standing is None or standing.contestant == "dense":
        return Text("")
    return Text(standing.verdict or "–", style=_COLOURS.get(standing.verdict or "", ""))


def _control_cell(standing: Standing | None, shown: _ShownParts) -> Text:
    if standing is None:
        return Text("")
    return Text(formatting.accuracy(standing.accuracy, "rival intervals" in shown))


def _levels_of(arm: ArmInfo, standings: Mapping[tuple[str, str, int], Standing]) -> list[int]:
    return sorted({level for id, _, level in standings if id == arm.id})


def _best_ticket(standings: Sequence[Standing]) -> Standing | None:
    """The ticket of the highest accuracy; of equals the smallest."""
    tickets = [s for s in standings if s.contestant == "ticket" and s.accuracy is not None]
    return max(tickets, key=lambda s: (s.accuracy.mean if s.accuracy else 0.0, s.level), default=None)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _title(arm: ArmInfo) -> str:
    sweep = ", ".join(f"{name} = {value}" for name, value in arm.sweep.items())
    return f"{arm.name}  ({sweep})" if sweep else arm.name


def _legend(state: RunState, standings: Mapping[tuple[str, str, int], Standing], extra_values: _ExtraValues) -> str:
    seeds = len(state.seeds)
    parts = [f"{seeds} seed{'s' if seeds != 1 else ''}"]
    if any(standing.accuracy and standing.accuracy.half_width is not None for standing in standings.values()):
        parts += ["± 95 % confidence interval of the mean", "differences are paired by seed"]
    if state.within:
        parts.append(f"winning: {formatting.below(state.within)} dense")
    if any(standing.verdict is not None for standing in standings.values()):
        parts.append("verdicts are corrected for the number of rounds (Holm)")
    if note := estimation_note(extra_values):
        parts.append(note)
    parts.append(f"{_BEST_MARK} best ticket")
    return " · ".join(parts)


class _AsciiOnly:
    """What a terminal without Unicode can show of `content`."""

    _REPLACEMENTS = str.maketrans({"±": "+-", "–": "-", "−": "-", "·": ";", "─": "-", "…": "~", "µ": "u"})

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console, options):  # type: ignore[no-untyped-def]
        for segment in console.render(self._content, options):
            yield segment._replace(text=segment.text.translate(self._REPLACEMENTS))
