"""`tickdsl ls` shows every run on one line of the terminal; a name means its newest run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_runs import write_run

from tickdsl.cli.ls import BestTicket, Row, cut_middle, run_table

STATUSES = ["running", "ok", "interrupted", "crashed", "stopped"]
BEST = BestTicket("colt", 3, 0.343, 0.9312, "winning")


def row(name: str, status: str, best: BestTicket | None = BEST) -> Row:
    eta = 5000.0 if status == "running" else None
    return Row(f"{name}-20260102-030405-00ff", name, status, (120, 4500), 1.8e9, 86_400.0, eta, best)


@given(
    names=st.lists(st.text("abcdefgh-", min_size=1, max_size=60), min_size=1, max_size=6),
    status=st.sampled_from(STATUSES),
    width=st.integers(60, 200),
)
def test_every_line_fits(names: list[str], status: str, width: int) -> None:
    lines = run_table([row(name, status) for name in names], width)
    assert len(lines) == len(names) + 1
    assert max(map(len, lines)) <= width
    for name, line in zip(names, lines[1:], strict=True):
        assert line.startswith(name[:4]) and "-00ff" in line and status in line
        assert line.endswith("93.1% at 34.3% winning")


def test_nothing_is_cut_where_there_is_room() -> None:
    lines = run_table([row("rewinding", "running"), row("x" * 90, "ok", None)], None)
    assert lines[0].split() == ["run", "status", "steps", "time", "left", "best", "ticket"]
    assert lines[1].split()[:3] == ["rewinding-20260102-030405-00ff", "running", "120/4500"]
    assert lines[2].startswith("x" * 90)


@given(st.text(max_size=40), st.integers(1, 50))
def test_a_cut_keeps_both_ends(text: str, room: int) -> None:
    cut = cut_middle(text, room)
    assert len(cut) == min(len(text), room)
    head, _, tail = cut.partition("…") if len(text) > room else (cut, "", "")
    assert text.startswith(head) and text.endswith(tail)


def test_the_best_ticket_is_that_of_the_results(harness: Any) -> None:
    out = harness.folder / "runs"
    write_run(out)
    write_run(out, until=4, end=None)
    shown = harness.call("ls", "--out", out)
    assert shown.exit == 0 and max(map(len, shown.out.splitlines())) <= 100
    first, second = json.loads(harness.call("ls", "--out", out, "--json").out)
    assert second["best"] is None
    assert first["best"]["verdict"] in ("winning", "losing", "undecided")
    assert f"at {100 * first['best']['weights']:.1f}% {first['best']['verdict']}" in shown.out


@pytest.mark.parametrize(
    "verb", [("report", "--format", "md"), ("watch", "--plain"), ("replay", "--plain", "--speed", "1e9")]
)
def test_a_name_means_its_newest_run(harness: Any, verb: tuple[str, ...]) -> None:
    out = harness.folder / "runs"
    for _ in range(3):
        newest = write_run(out)
    result = harness.call(verb[0], "colt", "--out", out, *verb[1:])
    assert result.exit == 0, result.err
    assert f"3 runs start with colt: taking the newest one, {newest.folder.name}" in result.err
    assert "start with" not in harness.call(verb[0], newest.folder.name, "--out", out, *verb[1:]).err
