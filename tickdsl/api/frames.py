"""Results as pandas data frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tickdsl.errors import TickdslError
from tickdsl.results.export import results_dict, results_rows
from tickdsl.results.state import RunState

if TYPE_CHECKING:
    from pandas import DataFrame


def seeds_frame(state: RunState) -> DataFrame:
    """A row per arm, contestant, level and seed, with the columns of results.csv."""
    columns, rows = results_rows(state)
    return _frame(columns, rows)


def levels_frame(state: RunState) -> DataFrame:
    """A row per arm, contestant and level: means over the seeds, intervals and verdicts."""
    sweep_names = sorted({name for arm in state.arms for name in arm.sweep})
    rows: list[dict[str, Any]] = []
    for arm in results_dict(state)["arms"]:
        for level in arm["levels"]:
            for contestant, entry in level["contestants"].items():
                row = {"arm": arm["id"], "name": arm["name"], "metric": arm["metric"]["name"]}
                row |= {f"sweep.{name}": arm["sweep"].get(name) for name in sweep_names}
                row |= {"contestant": contestant, "level": level["level"], "seeds": len(entry["seeds"])}
                rows.append(row | _flat(entry))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return _frame(columns, [[row.get(name) for name in columns] for row in rows])


def differences_frame(state: RunState) -> DataFrame:
    """A row per pair of rounds of every two arms that are compared: the first arm's score minus the second's."""
    rows: list[list[Any]] = []
    for pair in results_dict(state)["differences"]:
        for level in pair["levels"]:
            found = level["difference"] or {"n": 0, "mean": None, "half_width": None}
            values = {**pair, **level, "difference": found["mean"], "seeds": found["n"]}
            values["difference.half_width"] = found["half_width"]
            rows.append([values[name] for name in _DIFFERENCE_COLUMNS])
    return _frame(list(_DIFFERENCE_COLUMNS), rows)


_DIFFERENCE_COLUMNS = (
    "first", "second", "matched_by", "metric", "first_level", "second_level", "first_left", "second_left", "seeds",
    "difference", "difference.half_width", "verdict", "no_verdict", "p_ahead", "p_behind",
)  # fmt: skip
#: The fields of a contestant in results.json that are estimates, and those that are numbers or words.
_ESTIMATES = ("score", "accuracy", "to_dense", "lead")
_VALUES = (
    "sparsity", "params", "macs", "filters", "seconds", "verdict", "no_verdict", "p_winning", "p_losing",
    "lead_verdict", "p_ahead", "p_behind",
)  # fmt: skip


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """The columns of a contestant at a level: an estimate has a second column for its half width."""
    row: dict[str, Any] = {}
    estimates = {name: entry[name] for name in _ESTIMATES} | dict(entry["figures"])
    for name, estimate in estimates.items():
        row[name] = None if estimate is None else estimate["mean"]
        row[f"{name}.half_width"] = None if estimate is None else estimate["half_width"]
    trained = entry["trained"] or {}
    row |= {f"trained.{name}": trained.get(name) for name in ("epochs", "images", "seconds")}
    return row | {name: entry[name] for name in _VALUES}


def _frame(columns: list[str], rows: list[list[Any]]) -> DataFrame:
    try:
        import pandas
    except ImportError as error:
        raise TickdslError(
            "data frames need pandas, which is not installed", 'run `pip install "tickdsl[pandas]"`'
        ) from error
    return pandas.DataFrame(rows, columns=columns)
