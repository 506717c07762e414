"""The final table at several terminal widths, against golden files, and in a pipe.

`PYTHONPATH=tests/helpers python tests/results/test_table.py` rewrites the golden files.
"""

import io
import re
from pathlib import Path

import attrs
import pytest
from finished_runs import finished_run
from rich.console import Console

from tickdsl.results import RunState
from tickdsl.results.table import print_results

GOLDEN = Path(__file__).parent / "golden"


def printed(state: RunState, width: int, **options: object) -> str:
    out = io.StringIO()
    print_results(state, Console(file=out, width=width, _environ={}, **options))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


TABLES = {
    "table-120.txt": lambda: printed(finished_run(), 120),
    "table-80.txt": lambda: printed(finished_run(), 80),
    "table-60.txt": lambda: printed(finished_run(), 60),
    "table-45.txt": lambda: printed(finished_run(), 45),
    "table-one-seed.txt": lambda: printed(finished_run(seeds=(1,), controls=()), 80),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_table_matches_its_golden_file(name: str) -> None:
    assert TABLES[name]() == (GOLDEN / name).read_text(encoding="utf-8")


def test_only_a_winning_ticket_is_called_the_best() -> None:
    """The most accurate ticket of both arms is undecided: no row has the mark, and no legend explains it."""
    state = finished_run()
    shaky = {
        key: attrs.evolve(m, accuracy=m.accuracy + 0.03 * (key[3] - 2) * (key[1] == "ticket"), correct=None)
        for key, m in state.metrics.items()
        if m.accuracy is not None
    }
    text = printed(attrs.evolve(state, metrics=shaky), 120)
    assert "  undecided  " in text and "  winning  " not in text
    assert "*" not in text
    marked = [line for line in printed(state, 120).splitlines() if re.search(r"\d\*", line)]
    assert len(marked) == 2 and all("winning" in line for line in marked)


@pytest.mark.parametrize("width", [45, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_value_is_truncated(width: int) -> None:
    text = printed(finished_run(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_pipe_and_no_color_get_no_escapes() -> None:
    for options in ({}, {"force_terminal": True, "no_color": True, "color_system": None}):
        assert "\x1b" not in printed(finished_run(), 80, **options)
    assert "\x1b[32m" in printed(finished_run(), 80, force_terminal=True, color_system="standard")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_results(finished_run(), Console(file=out, width=80))
    out.flush()
    assert b"95.0" in raw.getvalue()
    assert b"+-" in raw.getvalue()


def test_an_arm_name_is_not_parsed_as_markup() -> None:
    assert "imp[scope=local]:" in printed(finished_run(), 80)


def test_an_unfinished_run_says_so() -> None:
    state = attrs.evolve(finished_run(), status="stopped")
    assert "the run was stopped" in printed(state, 80)
    assert "no measurements" in printed(RunState(), 80)


def test_an_arm_without_measurements_keeps_its_place() -> None:
    state = finished_run()
    half = {key: metric for key, metric in state.metrics.items() if key[0] == "colt"}
    assert "imp[scope=local]: no measurements" in printed(attrs.evolve(state, metrics=half), 80)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, make in TABLES.items():
        (GOLDEN / name).write_text(make(), encoding="utf-8")
