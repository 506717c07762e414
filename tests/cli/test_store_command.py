"""`tickdsl store`: sizes, verification and removal, on the stores of real runs and beside running ones."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_file_systems import make_read_only

from tickdsl.records import RunPaths, Store, list_runs
from tickdsl.records.store_contents import stored_results

Keep = Callable[[subprocess.Popen[str]], subprocess.Popen[str]]
__all__ = ["make_read_only"]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "store.md"
ROUND = "prune filters 30%; rewind lr\n"
_LONGER = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\ntrain 4ep lr=0.1 batch=16\n"


def call(harness: Any, action: str, *flags: object) -> Any:
    return harness.call("store", action, "--store", harness.store, "--out", harness.folder / "runs", *flags)


def keys(harness: Any) -> set[str]:
    return {found.key for found in stored_results(harness.store)}


def steps_of(paths: RunPaths) -> set[str]:
    return {step["key"] for step in json.loads(paths.plan_json.read_text())["steps"]}


def two_runs(harness: Any) -> tuple[RunPaths, RunPaths]:
    """Two runs that share some results."""
    runs = []
    for tail in ("compare random-init\n", "compare random-structure\n"):
        harness.write(ROUND + tail)
        assert harness.run().exit == 0
        runs.append(harness.last_run)
    return runs[0], runs[1]


def test_sizes_by_run_add_up(harness: Any) -> None:
    first, second = two_runs(harness)
    content = json.loads(call(harness, "size", "--json").out)
    by_run = {run["run"]: run for run in content["runs"]}
    assert content["results"] == len(keys(harness)) == len(steps_of(first) | steps_of(second))
    assert content["bytes"] == sum(content["folders"].values())
    assert content["folders"]["results"] == sum(found.size for found in stored_results(harness.store))
    shared = content["folders"]["results"] - sum(run["alone"] for run in by_run.values())
    for paths in (first, second):
        run = by_run[paths.folder.name]
        assert run["results"] == run["steps"] == len(steps_of(paths)) and not run["running"]
        assert run["bytes"] == run["alone"] + shared
    assert content["removable"] == {"results": 0, "bytes": 0}
    shutil.rmtree(first.folder)
    freed = json.loads(call(harness, "size", "--json").out)["removable"]
    assert freed == {"results": len(steps_of_only(harness, second)), "bytes": by_run[first.folder.name]["alone"]}
    shown = call(harness, "size").out
    assert second.folder.name in shown and first.folder.name not in shown
    assert "would remove" in shown


def steps_of_only(harness: Any, kept: RunPaths) -> set[str]:
    """The stored keys that this run does not refer to."""
    return keys(harness) - steps_of(kept)


def test_list_names_operations_and_runs(harness: Any) -> None:
    first, second = two_runs(harness)
    rows = {row["key"]: row for row in json.loads(call(harness, "list", "--json").out)}
    assert rows.keys() == keys(harness)
    for key, row in rows.items():
        assert row["operation"] == Store(harness.store).get(key).data["operation"]
        assert (first.folder.name in row["runs"]) == (key in steps_of(first))
    only = json.loads(call(harness, "list", "--run", second.folder.name, "--json").out)
    assert {row["key"] for row in only} == steps_of(second)
    shown = call(harness, "list").out.splitlines()
    assert len(shown) == len(rows) + 1 and shown[0].split() == ["key", "operation", "made", "size", "runs"]


def test_gc_removes_what_only_a_deleted_run_needed(harness: Any) -> None:
    first, second = two_runs(harness)
    assert "nothing to remove" in call(harness, "gc", "--dry-run").out
    assert "removed nothing" in call(harness, "gc").out
    shutil.rmtree(first.folder)
    before = keys(harness)
    shown = call(harness, "gc", "--dry-run").out
    assert "would remove" in shown and str(first.folder) in shown
    assert "nothing to remove" in call(harness, "gc", "--dry-run", "--older", "1h").out
    assert keys(harness) == before
    removed = call(harness, "gc")
    assert removed.out == shown.replace("would remove", "removed").replace("would keep", "kept")
    assert keys(harness) == steps_of(second)
    assert "removed nothing" in call(harness, "gc").out and str(first.folder) not in call(harness, "gc").out


def test_force_spares_the_runs_to_keep(harness: Any) -> None:
    first, second = two_runs(harness)
    assert call(harness, "gc", "--force", "--keep", first.folder.name).exit == 0
    assert keys(harness) == steps_of(first)
    moved = harness.folder / "elsewhere"
    first.folder.rename(moved)
    assert call(harness, "gc", "--force", "--keep", moved).exit == 0
    assert keys(harness) == steps_of(RunPaths(moved))
    assert call(harness, "gc", "--force", "--older", "2d").exit == 0, "everything was used since then"
    assert keys(harness) == steps_of(RunPaths(moved))
    assert call(harness, "gc", "--force").exit == 0
    assert keys(harness) == set()
    assert second.folder.is_dir()


def test_verify_says_what_is_damaged_and_what_to_do(harness: Any) -> None:
    harness.write(ROUND)
    harness.run()
    number = len(keys(harness))
    assert call(harness, "verify").out == f"{number} results intact, 0 damaged\n"
    weights = sorted(harness.store.glob("results/*/*/weights.safetensors"))
    content = bytearray(weights[0].read_bytes())
    content[-1] ^= 1
    weights[0].write_bytes(content)
    forged = weights[1].parent / "result.json"
    data = json.loads(forged.read_text())
    data["parts"]["seed"] = 99
    del data["sha256"]  # as of an earlier version
    forged.write_text(json.dumps(data))
    found = call(harness, "verify")
    assert found.exit == 1 and f"{number - 2} results intact, 2 damaged" in found.out
    assert weights[0].parent.name in found.out and str(forged.parent) in found.out
    assert harness.last_run.folder.name in found.out and "run the plan again" in found.out
    shutil.rmtree(forged.parent)
    assert harness.run().exit == 0
    assert "1 damaged result" in call(harness, "gc").out
    assert call(harness, "verify").out == f"{len(keys(harness))} results intact, 0 damaged\n"
    assert not list((harness.store / "damaged").iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("size", "--store", "gone"), ("no store in gone", "--store")),
        (("list", "--store", "gone"), ("no store in gone",)),
        (("verify", "--store", "gone"), ("no store in gone",)),
        (("gc", "--store", "gone"), ("no store in gone",)),
        (("size", "--store", "notes"), ("notes is not a store",)),
        (("gc", "--store", "test.plan"), ("test.plan", "file is in the way")),
        (("gc", "--store", "ok", "--keep", "colt"), ("no run colt in runs", "tickdsl ls")),
        (("list", "--store", "ok", "--run", "colt"), ("no run colt in runs",)),
    ],
)
def test_what_is_not_there_is_one_message(harness: Any, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    harness.write(ROUND)
    (harness.folder / "notes").mkdir()
    (harness.folder / "notes" / "todo.txt").touch()
    (harness.folder / "ok" / "results").mkdir(parents=True)
    result = harness.call("store", *arguments)
    assert result.exit == 2 and result.out == ""
    assert all(word in result.err for word in words), result.err
    assert result.err.count("tickdsl:") == 1 and "Traceback" not in result.err
    assert not (harness.folder / "gone").exists()


@pytest.mark.parametrize("text", ["30", "d", "-3d", "1y", "30 d", ""])
def test_an_age_needs_a_unit(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tickdsl.cli import main

    with pytest.raises(SystemExit):
        main(["store", "gc", f"--older={text}"])
    assert "30d" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_stops_gc(harness: Any) -> None:
    first, second = two_runs(harness)
    shutil.rmtree(harness.store / "runs")  # as in a store of an earlier version
    for path in (first.plan_json, first.events):
        path.write_text("damaged")
    before = keys(harness)
    refused = call(harness, "gc")
    assert refused.exit == 2 and str(first.folder) in refused.err and keys(harness) == before
    assert call(harness, "size").exit == 0
    forced = call(harness, "gc", "--force", "--keep", second.folder.name)
    assert forced.exit == 0 and str(first.folder) in forced.err
    assert keys(harness) == steps_of(second)


def test_a_store_that_cannot_be_written_is_one_message(harness: Any, make_read_only: Any) -> None:
    harness.write(ROUND)
    harness.run()
    before = keys(harness)
    make_read_only(harness.store)
    refused = call(harness, "gc", "--force")
    assert refused.exit == 2 and "cannot write" in refused.err and refused.err.count("tickdsl:") == 1
    assert keys(harness) == before
    for action in (("size",), ("list",), ("verify",), ("gc", "--force", "--dry-run")):
        assert call(harness, *action).exit == 0, action


@pytest.mark.parametrize("action", ["size", "list", "verify", "gc"])
def test_a_folder_that_cannot_be_read_is_one_message(
    harness: Any, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    harness.write(ROUND)
    harness.run()
    closed = next(harness.store.glob("results/*"))
    iterdir = Path.iterdir

    def refuse(path: Path) -> Any:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    result = call(harness, action)
    assert result.exit == 2 and result.out == ""
    assert f"cannot read {closed}" in result.err and result.err.count("tickdsl:") == 1


def test_results_of_a_newer_version_are_refused(harness: Any) -> None:
    harness.write(ROUND)
    harness.run()
    record = next(harness.store.glob("results/*/*/result.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "v": 2}))
    before = keys(harness)
    for action in (("list",), ("verify",), ("gc", "--force")):
        result = call(harness, *action)
        assert result.exit == 2 and "another version of tickdsl" in result.err, action
    assert keys(harness) == before


def layout() -> list[re.Pattern[str]]:
    """The paths that the page names, as patterns."""
    block = re.search(r"## Layout.*?```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    paths = [line.split()[0] for line in block[1].splitlines()]
    return [
        re.compile(re.sub(r"[A-Z]+", "[^/]+", re.escape(path)) + (".*" if path.endswith("/") else "")) for path in paths
    ]


def test_the_store_looks_as_the_page_says(harness: Any) -> None:
    patterns = layout()
    harness.write(ROUND)
    harness.run()
    started: list[str] = []
    with harness.stopping(lambda: bool(started) or started.append("") is not None, 0.0):
        harness.run("--fresh", "--checkpoint-every", 0.01)
    damaged = next(harness.store.glob("results/*/*"))
    (damaged / "result.json").write_text("{}")
    assert damaged.name not in Store(harness.store)
    Store(harness.store).claims.acquire("aakey")
    found = [path.relative_to(harness.store).as_posix() for path in harness.store.rglob("*") if path.is_file()]
    found += [f"{path.relative_to(harness.store).as_posix()}/" for path in harness.store.glob("claims/*/*")]
    assert found
    for path in found:
        assert any(pattern.fullmatch(path) for pattern in patterns), path
    folders = {path.split("/")[0] for path in found}
    assert {"results", "runs", "choices", "damaged", "claims", "fresh"} <= folders
    Store(harness.store).claims.release_all()


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [(), ("--fresh",)])
def test_a_run_that_was_stopped_continues_where_it_was(harness: Any, fresh: tuple[str, ...]) -> None:
    harness.write(ROUND, _LONGER)
    if fresh:
        harness.run()
    with harness.stopping(lambda: any(event.epoch >= 2 for event in harness.events_of("step.progress")), 0.0):
        assert harness.run(*fresh).exit == 4
    stopped = harness.last_run.folder
    assert "removed nothing" in call(harness, "gc").out
    assert harness.run(*fresh).exit == 0
    assert next(event.epoch for event in harness.events_of("step.progress")) > 2
    with harness.stopping(lambda: any(event.epoch >= 2 for event in harness.events_of("step.progress")), 0.0):
        assert harness.run("--fresh", "--fresh").exit == 4
    assert stopped.is_dir() and "1 unfinished --fresh run" in call(harness, "gc", "--force").out
    assert harness.run("--fresh").exit == 0
    assert next(event.epoch for event in harness.events_of("step.progress")) == 1, "its checkpoint was removed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_after_random_removals_every_kept_run_can_be_reported_and_continued(harness: Any, seed: int) -> None:
    """Running a plan again trains exactly what was removed, and gives the same bits."""
    draw = random.Random(seed)
    plans = ["compare random-init\n", "compare random-structure\n", "seeds 2\n", "report pruned\n"]
    bits: dict[str, bytes] = {}

    def run(tail: str) -> None:
        harness.write(ROUND + tail)
        before = keys(harness)
        assert harness.run().exit == 0
        run_anew, needed = set(harness.ended_keys("done")), steps_of(harness.last_run)
        assert run_anew == keys(harness) - before and run_anew <= needed
        measured = {event.step for kind in ("metric", "measure") for event in harness.events_of(kind)}
        names = {info.id: info.key for event in harness.events_of("plan.resolved") for info in event.steps}
        assert {names[step] for step in measured} <= keys(harness)
        for key, weights in harness.weight_bytes().items():
            assert bits.setdefault(key, weights) == weights

    run(plans[0])
    for _ in range(10):
        match draw.choice(["run", "run", "delete", "gc", "force", "keep"]):
            case "run":
                run(draw.choice(plans))
            case "delete" if runs := list_runs(harness.folder / "runs"):
                shutil.rmtree(draw.choice(runs).folder)
                (harness.folder / "runs" / "latest").unlink(missing_ok=True)
            case "gc":
                assert call(harness, "gc", *draw.choice([(), ("--older", "1d")])).exit == 0
            case "force":
                assert call(harness, "gc", "--force").exit == 0
            case "keep" if runs := list_runs(harness.folder / "runs"):
                kept = draw.choice(runs)
                needs = steps_of(kept) & keys(harness)
                assert call(harness, "gc", "--force", "--keep", kept.folder.name).exit == 0
                assert keys(harness) == needs
        for paths in list_runs(harness.folder / "runs"):
            page = harness.call("report", paths.folder, "--to", harness.folder / "page.html")
            assert page.exit == 0, page.err
    for tail in plans:
        run(tail)
    shown = call(harness, "verify")
    assert shown.exit == 0, shown.out


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_running_run_loses_nothing(harness: Any, processes: Keep, jobs: int) -> None:
    """`gc --force` is called again and again while a run is at work, and while runs start."""
    harness.write(ROUND + "seeds [11]\n")
    harness.run()
    other = steps_of(harness.last_run)
    harness.write("seeds 2\nprune filters 30% x 2; rewind weights to 1ep\ncompare random-init\n", _LONGER)
    engine = processes(harness.start_process("--jobs", jobs))
    ended = threading.Event()
    removals: list[subprocess.CompletedProcess[str]] = []

    def clean() -> None:
        command = [sys.executable, "-m", "tickdsl.cli", "store", "gc", "--force", "--store", str(harness.store)]
        while not ended.is_set():
            call = [*command, "--out", str(harness.folder / "runs")]
            removals.append(subprocess.run(call, capture_output=True, text=True, check=False))
            ended.wait(0.3)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        _, err = engine.communicate(timeout=180)
    finally:
        ended.set()
        cleaner.join()
    assert engine.returncode == 0, err
    assert len(removals) > 2 and {(done.returncode, done.stderr) for done in removals} == {(0, "")}
    assert len(harness.ended_keys("done")) == len(set(harness.ended_keys("done"))), "no step ran twice"
    assert not harness.steps_ended("failed") and not other & keys(harness)
