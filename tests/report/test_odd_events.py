"""Events whose ids and values do not fit their plan are skipped with a note, by every front."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_run import snapshot
from written_runs import write_run

from tickdsl.errors import TickdslError
from tickdsl.records import RunPaths, read_events
from tickdsl.report import read_source, render_report
from tickdsl.results.plain_progress import PlainProgress

NOTE = "of events.jsonl"


def show_everywhere(run: RunPaths) -> str:
    source = read_source(run)
    for form in ("html", "csv", "json", "svg"):
        render_report(form, [source])
    plain = PlainProgress(io.StringIO(), live=False)
    records = list(read_events(run.events))
    for record in records:
        plain.show(record)
    snapshot(records)
    return render_report("md", [source]).decode()


def lines_of(run: RunPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.events.read_bytes().splitlines()]


def write(run: RunPaths, lines: list[dict[str, Any]]) -> None:
    run.events.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_what_does_not_fit_is_skipped_with_a_note(tmp_path: Path) -> None:
    run = write_run(tmp_path, levels=2)
    whole = show_everywhere(run)
    assert NOTE not in whole
    lines = lines_of(run)
    metric = next(line for line in lines if line["type"] == "metric")
    odd: list[dict[str, Any]] = [
        {"arm": "nobody"}, {"seed": 77}, {"level": -1}, {"sparsity": 1.5}, {"accuracy": -3.0}, {"params": -(10**9)},
    ]  # fmt: skip
    write(run, [*lines[:-1], *({**metric, **change} for change in odd), lines[-1]])
    shown = show_everywhere(run)
    assert f"warning: 6 entries {NOTE} do not fit the plan of the run; skipped" in shown
    assert shown.replace(f"- warning: 6 entries {NOTE} do not fit the plan of the run; skipped\n", "") == whole


def test_a_plan_that_contradicts_itself(tmp_path: Path) -> None:
    run = write_run(tmp_path, levels=2)
    lines = lines_of(run)
    (plan,) = [line for line in lines if line["type"] == "plan.resolved"]
    plan["steps"][1]["parents"] = ["nothing"]
    plan["measurements"][0]["step"] = "nothing"
    plan["measurements"][1]["arm"] = "nobody"
    write(run, lines)
    assert f"3 entries {NOTE} do not fit" in show_everywhere(run)


WORDS = ("matched_by", "operation", "kind", "status", "code", "data", "device")


@pytest.mark.parametrize("name", WORDS)
def test_words_of_later_versions(name: str, tmp_path: Path) -> None:
    """The words of a fixed list may have others in events of a later version."""

    def changed(value: Any, within: str = "") -> Any:
        if isinstance(value, dict):
            return {key: changed(inner, key) for key, inner in value.items()}
        if isinstance(value, list):
            return [changed(inner, within) for inner in value]
        return "unheard of" if within == name and isinstance(value, str) else value

    run = write_run(tmp_path, levels=2)
    lines = lines_of(run)
    assert name in json.dumps(lines)
    write(run, [changed(line) for line in lines])
    assert "Arms against each other" in show_everywhere(run)


@pytest.mark.slow
def test_any_value_anywhere(tmp_path: Path) -> None:
    run = write_run(tmp_path, levels=2)
    lines = lines_of(run)
    for seed in range(100):
        draw = random.Random(seed)
        changed = json.loads(json.dumps(lines))
        for _ in range(draw.choice([1, 1, 2, 4])):
            _change_something(draw.choice(changed), draw)
        if draw.random() < 0.3:
            del changed[draw.randrange(len(changed))]
        if draw.random() < 0.2:
            draw.shuffle(changed)
        write(run, changed)
        try:
            show_everywhere(run)
        except TickdslError:  # e.g. no run has started
            continue
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


def _change_something(line: dict[str, Any], draw: random.Random) -> None:
    """Replace a value in a line by another one, mostly of its type."""

    def places(value: Any) -> Iterator[tuple[Any, Any]]:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, (dict, list)):
                yield from places(inner)
            elif name not in ("v", "type"):
                yield value, name

    options = list(places(line))
    if not options:
        return
    holder, name = draw.choice(options)
    value = holder[name]
    if isinstance(value, str):
        holder[name] = draw.choice(["", "other", "colt", "imp", "ticket", "dense", "1", "\x1b"])
    elif isinstance(value, (int, float)):
        holder[name] = type(value)(draw.choice([0, -1, 1, 7, 10**6, 10**12, value + 1]))
    else:
        holder[name] = draw.choice([None, 1, "x"])
