"""The table that a run ends with: per arm a block of rounds, and what came out in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tickdsl.records.events import ArmInfo
from tickdsl.results import words
from tickdsl.results.figures import Column, Figure, Key, columns, figures, machines, remark, said
from tickdsl.results.sentence import conclusions
from tickdsl.results.state import RunState
from tickdsl.results.verdict import LOSING, UNDECIDED, WINNING, Standing, remarks, standings

_COLOURS = {WINNING: "green", LOSING: "red", UNDECIDED: "yellow"}
_BEST = "*"


# What a narrow terminal goes without, in this order; the rest is always shown.
_DISPENSABLE = (
    "sparsity", "rival intervals", "MACs", "difference intervals", "params", "rivals", "accuracy intervals",
)  # fmt: skip
_Shown = frozenset[str]
_Asked = Mapping[Key, Mapping[str, Figure]]
_SHAPES: tuple[_Shown, ...] = tuple(frozenset(_DISPENSABLE[n:]) for n in range(len(_DISPENSABLE) + 1))


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
    found, asked = standings(state), figures(state)
    for shown in _SHAPES:
        blocks = [_block(arm, found, state, shown) for arm in state.arms]
        if all(_width(block, console) <= console.width for block in blocks):
            break
    sentences = conclusions(state)
    parts: list[RenderableType] = []
    for arm, block in zip(state.arms, blocks, strict=True):
        parts += [Text(_title(arm), style="bold"), block, *_more(arm, asked, state, console)]
        parts += [Text(sentences[arm.id]), Text()]
    parts.append(Text(_legend(state, found, asked), style="dim"))
    if state.status != "ok":
        parts.append(Text(f"note: the run is {state.status}; {state.finished} of {len(state.steps)} steps are done"))
    parts += [Text(f"note: {note}", style="dim") for note in [*remarks(state), *machines(state)]]
    content = Group(*parts)
    return content if console.encoding.startswith("utf") else _Ascii(content)


def _block(
    arm: ArmInfo,
    found: Mapping[tuple[str, str, int], Standing],
    state: RunState,
    shown: _Shown,
) -> Table:
    rows = [(level, found.get((arm.id, "dense" if level == 0 else "ticket", level))) for level in _rounds(arm, found)]
    rivals = [
        name
        for name in state.contestants
        if name not in ("ticket", "dense") and any(key[:2] == (arm.id, name) for key in found)
    ]
    best = _best([standing for _, standing in rows if standing is not None])
    table = _empty()
    usual = _columns(shown, best, state.report)
    if all(standing is None or standing.filters in (None, 1.0) for _, standing in rows):
        usual = [column for column in usual if column[0] != _FILTERS]
    for heading, _ in usual:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True, min_width=len(UNDECIDED))
    if "rivals" in shown:
        for name in rivals:
            table.add_column(Text(name.replace("-", "-\n")), justify="right", no_wrap=True)
    for level, standing in rows:
        cells: list[RenderableType] = ["–" if standing is None else cell(standing) for _, cell in usual[1:]]
        cells.insert(0, "dense" if level == 0 else str(level))
        cells.append(_verdict(standing))
        if "rivals" in shown:
            cells += [_rival(found.get((arm.id, name, level)), shown) for name in rivals]
        table.add_row(*cells, style="bold" if standing is not None and standing is best else None)
    return table


def _more(arm: ArmInfo, asked: _Asked, state: RunState, console: Console) -> list[RenderableType]:
    """What `report` asked for of an arm: as many tables as its columns need at this width."""
    own = {key: named for key, named in asked.items() if key[0] == arm.id}
    order = {name: place for place, name in enumerate(dict.fromkeys(("dense", "ticket", *state.contestants)))}
    keys = sorted(own, key=lambda key: (key[2], order.get(key[1], len(order))))
    tables: list[RenderableType] = []
    shown: list[Column] = []
    for column in columns(own):
        if shown and _width(_figures(keys, own, [*shown, column]), console) > console.width:
            tables += [_figures(keys, own, shown), Text()]
            shown = []
        shown.append(column)
    return [Text(), *tables, _figures(keys, own, shown), Text()] if shown else []


def _figures(keys: Sequence[Key], own: _Asked, shown: Sequence[Column]) -> Table:
    """A row for each network: the dense one, each round's ticket, and its rivals."""
    table = _empty()
    table.add_column("round", no_wrap=True)
    for column in shown:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for _, contestant, level in keys:
        name = {"dense": "dense", "ticket": str(level)}.get(contestant, f"  {contestant}")
        figures_ = own[keys[0][0], contestant, level]
        dim = contestant not in ("dense", "ticket")
        table.add_row(name, *(said(column, figures_) for column in shown), style="dim" if dim else None)
    return table


def _empty() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)


_Cell = Callable[[Standing], str]
_FILTERS = "filters\nleft"


def _columns(shown: _Shown, best: Standing | None, report: Sequence[str]) -> list[tuple[str, _Cell]]:
    """The columns that fit and that the plan asks for; without `report`, all but loss and time."""
    asked = report or ("sparsity", "params", "flops")

    def accuracy(standing: Standing) -> str:
        return words.accuracy(standing.accuracy, "accuracy intervals" in shown) + (_BEST if standing is best else " ")

    columns: list[tuple[bool, str, _Cell]] = [
        (True, "round", lambda s: str(s.level)),
        ("sparsity" in shown and "sparsity" in asked, "sparsity", lambda s: words.percent(s.sparsity)),
        (True, "weights\nleft", lambda s: words.percent(s.left)),
        (True, _FILTERS, lambda s: words.percent(s.filters)),
        ("params" in shown and "params" in asked, "params", lambda s: words.count(s.params)),
        ("MACs" in shown and "flops" in asked, "MACs", lambda s: words.count(s.macs)),
        ("train-time" in asked, "train\ntime", lambda s: "" if s.seconds is None else words.duration(s.seconds)),
        ("loss" in asked, "test\nloss", lambda s: "" if s.loss is None else f"{s.loss:.4f}"),
        (True, "accuracy\n% ", accuracy),
        (True, "to dense\npoints", lambda s: _difference(s, "difference intervals" in shown)),
    ]
    return [(heading, cell) for wanted, heading, cell in columns if wanted]


def _difference(standing: Standing, interval: bool) -> str:
    return "" if standing.contestant == "dense" else words.points(standing.to_dense, interval)


def _verdict(standing: Standing | None) -> Text:
    if standing is None or standing.contestant == "dense":
        return Text("")
    return Text(standing.verdict or "–", style=_COLOURS.get(standing.verdict or "", ""))


def _rival(standing: Standing | None, shown: _Shown) -> Text:
    if standing is None:
        return Text("")
    return Text(words.accuracy(standing.accuracy, "rival intervals" in shown))


def _rounds(arm: ArmInfo, found: Mapping[tuple[str, str, int], Standing]) -> list[int]:
    return sorted({level for id, _, level in found if id == arm.id})


def _best(standings: Sequence[Standing]) -> Standing | None:
    """The ticket of the highest accuracy; of equals the smallest."""
    tickets = [s for s in standings if s.contestant == "ticket" and s.accuracy is not None]
    return max(tickets, key=lambda s: (s.accuracy.mean if s.accuracy else 0.0, s.level), default=None)


def _width(table: Table, console: Console) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _title(arm: ArmInfo) -> str:
    sweep = ", ".join(f"{name} = {value}" for name, value in arm.sweep.items())
    return f"{arm.name}  ({sweep})" if sweep else arm.name


def _legend(state: RunState, found: Mapping[tuple[str, str, int], Standing], asked: _Asked) -> str:
    seeds = len(state.seeds)
    parts = [f"{seeds} seed{'s' if seeds != 1 else ''}"]
    if any(standing.accuracy and standing.accuracy.half_width is not None for standing in found.values()):
        parts += ["± 95 % confidence interval of the mean", "differences are paired by seed"]
    if state.within:
        parts.append(f"winning: {words.below(state.within)} dense")
    if any(standing.verdict is not None for standing in found.values()):
        parts.append("verdicts are corrected for the number of rounds (Holm)")
    if said_of_them := remark(asked):
        parts.append(said_of_them)
    parts.append(f"{_BEST} best ticket")
    return " · ".join(parts)


class _Ascii:
    """What a terminal without Unicode can show of `content`."""

    _SPELLING = str.maketrans({"±": "+-", "–": "-", "−": "-", "·": ";", "─": "-", "…": "~", "µ": "u"})

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console, options):  # type: ignore[no-untyped-def]
        for segment in console.render(self._content, options):
            yield segment._replace(text=segment.text.translate(self._SPELLING))
