"""What trackers are told of a run, and that nothing they do disturbs it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import threading
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from task_runs import RMSE
from written_runs import write_run

from tickdsl import TickdslError
from tickdsl.records import EventRecord, RunPaths, read_events
from tickdsl.records.events import Metric, RunStart
from tickdsl.results import build_state
from tickdsl.results.answers import answers
from tickdsl.results.export import write_results

PLAN = "seeds 1\narm a { prune filters 30% x 1; rewind weights to init }\ncompare a, dense\n"


def pass_on(name: str, paths: RunPaths, **options: Any) -> Any:
    """The listener after all events of a run."""
    listener_type = importlib.import_module("tickdsl.trackers.listener").TrackerListener
    listener = listener_type(name, lambda start: paths.folder, **options)
    records = list(read_events(paths.events))
    for record in records:
        listener.submit(record)
    state = build_state(records)
    write_results(state, paths)
    listener.close(state)
    return listener


def metrics_of(paths: RunPaths) -> list[Metric]:
    return [record.event for record in read_events(paths.events) if isinstance(record.event, Metric)]


def test_wandb_gets_every_round_on_its_axis_and_the_results(stand_ins: Path, tmp_path: Path) -> None:
    paths = write_run(tmp_path / "runs")
    assert pass_on("wandb", paths).error is None
    told = importlib.import_module("wandb").told
    (_, arguments), *_ = told
    assert arguments["name"] == paths.folder.name and arguments["dir"] == str(paths.folder)
    assert arguments["config"]["arms"] == ["colt", "imp"] and arguments["config"]["seeds"] == [1, 2, 3]
    assert ("axis", "rounds/*", "round") in told and ("axis", "training/*", "epoch") in told
    logged = [entry[1] for entry in told if entry[0] == "log"]
    for metric in metrics_of(paths):
        control = "" if metric.contestant in ("dense", "ticket") else f"{metric.contestant}/"
        key = f"rounds/{metric.arm}/{control}seed-{metric.seed}/accuracy"
        assert any(values.get(key) == metric.accuracy and values.get("round") == metric.level for values in logged)
    assert any(values.get("accuracy", b"")[:4] == b"\x89PNG" for values in logged if len(values) == 1)
    assert told[-2] == ("files", ["results.json", "results.csv", "plan.plan", "events.jsonl"])
    _, code, summary = told[-1]
    state = build_state(read_events(paths.events))
    assert code == 0 and summary["answer/1"] == answers(state)[0]
    assert json.loads(paths.results_json.read_text())["arms"][0]["conclusion"] == summary["conclusion/colt"]


def test_another_task_is_told_by_its_metrics(stand_ins: Path, tmp_path: Path) -> None:
    paths = write_run(tmp_path / "runs", metrics=(RMSE,))
    assert pass_on("wandb", paths).error is None
    logged = [entry[1] for entry in importlib.import_module("wandb").told if entry[0] == "log"]
    names = {name for values in logged for name in values}
    assert "rounds/colt/seed-1/rmse" in names and "rounds/colt/random-init/seed-1/rmse" in names
    assert not [name for name in names if "accuracy" in name]
    assert any(values.get("rmse", b"")[:4] == b"\x89PNG" for values in logged if len(values) == 1)


def test_mlflow_gets_every_round_as_a_step(stand_ins: Path, tmp_path: Path) -> None:
    paths = write_run(tmp_path / "runs", arms=4)
    assert pass_on("mlflow", paths).error is None
    told = importlib.import_module("mlflow.tracking").told
    assert told[:2] == [("experiment", "tickdsl"), ("run", "7", paths.folder.name)]
    assert ("seeds", "1, 2, 3") in told and ("device", "cpu") in told
    steps = {step for key, _, _, step in (e for e in told if len(e) == 4) if key.endswith("colt-share-0/seed-1/loss")}
    assert steps == {0, 1, 2, 3}
    assert {("file", name) for name in ("results.json", "plan.plan", "accuracy.png")} <= set(told)
    assert told[-1] == ("end", "FINISHED")


def test_a_run_that_fails_is_a_failed_run(stand_ins: Path, tmp_path: Path) -> None:
    pass_on("mlflow", write_run(tmp_path / "runs", end="failed"))
    assert importlib.import_module("mlflow.tracking").told[-1] == ("end", "FAILED")


@pytest.mark.parametrize("moment", ["start", "log", "finish"])
def test_an_error_of_a_tracker_is_kept_as_words(tmp_path: Path, moment: str) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any) -> None:
                if name == moment:
                    raise SystemExit("no\nquota")

            return call

    listener = pass_on("wandb", write_run(tmp_path / "runs"), open_tracker=lambda name: Broken())
    assert listener.error == "no quota"


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path) -> None:
    from tickdsl.trackers import TrackerListener

    release = threading.Event()
    paths = write_run(tmp_path / "runs")

    def hang(name: str) -> Any:
        release.wait(30)
        raise RuntimeError("late")

    listener = TrackerListener("wandb", lambda start: paths.folder, hang)
    for record in read_events(paths.events):
        listener.submit(record)
    listener.close(None, seconds=0.05)
    assert listener.error is not None and "did not take the last values" in listener.error
    release.set()


def test_nothing_is_opened_before_the_plan_is_known(tmp_path: Path) -> None:
    from tickdsl.trackers import TrackerListener

    opened: list[str] = []
    listener = TrackerListener("wandb", lambda start: tmp_path, lambda name: opened.append(name))  # type: ignore[arg-type,func-returns-value]
    paths = write_run(tmp_path / "runs", until=1)
    records: list[EventRecord] = list(read_events(paths.events))
    assert isinstance(records[0].event, RunStart)
    listener.submit(records[0])
    listener.close(build_state(records))
    assert opened == [] and listener.error is None


def test_a_run_goes_on_without_its_tracker(harness: Any, stand_ins: Path) -> None:
    (stand_ins / "mlflow" / "tracking" / "__init__.py").write_text("raise ImportError('of another version')")
    harness.write(PLAN)
    result = harness.run("--tracker", "wandb", "--tracker", "mlflow")
    assert result.exit == 0
    assert result.err.count("stopped passing results on to") == 1
    assert "warning: stopped passing results on to mlflow: of another version" in result.err
    told = importlib.import_module("wandb").told
    epochs = [entry[1] for entry in told if entry[0] == "log" and "epoch" in entry[1]]
    assert any(key.startswith("training/a/seed-1/accuracy/round-01") for values in epochs for key in values)
    assert told[-1][:2] == ("finish", 0)


def test_a_tracker_that_is_not_there_is_one_message(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tickdsl

    with pytest.raises(TickdslError, match="no tracker `comet`"):
        tickdsl.run("data digits", tracker="comet")
    harness.write(PLAN)
    for spec in (None, ModuleSpec("wandb", None)):  # or it is only a folder, in which offline runs were saved
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        result = harness.run("--tracker", "wandb")
        assert result.exit == 2
        assert "the tracker wandb is not installed" in result.err and 'pip install "tickdsl[wandb]"' in result.err
