"""What is stored is described even if some of it is damaged, and estimated from what is alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tickdsl.records import Store

NETWORK = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"


def trainings(harness: Any) -> list[Path]:
    """The folders of the stored trainings, by key."""
    return sorted(result.folder for result in Store(harness.store).results("train"))


@pytest.fixture
def planned(harness: Any) -> Any:
    harness.write("train 1ep batch=128\nseeds 2\nprune weights 20%; rewind lr\n", head=NETWORK)
    assert harness.run().exit == 0
    return harness


def test_a_damaged_training_is_named_and_set_aside(planned: Any) -> None:
    for content in ("", "{}", '{"v": 1'):
        damaged, *others = trainings(planned)
        (damaged / "result.json").write_text(content)
        result = planned.call("plan", planned.plan, "--store", planned.store)
        assert result.exit == 0
        assert "damaged" in result.err and damaged.name in result.err
        assert not damaged.exists() and all(other.exists() for other in others)
        assert "about 0:0" in result.out


def test_why_a_step_runs_again_if_other_results_are_damaged(planned: Any) -> None:
    for damaged in trainings(planned)[:2]:
        (damaged / "weights.safetensors").write_bytes(b"")
    key = trainings(planned)[0].name
    planned.write("train 3ep batch=128\nseeds 2\nprune weights 20%; rewind lr\n", head=NETWORK)
    steps = json.loads(planned.call("plan", planned.plan, "--store", planned.store, "--json").out)["steps"]
    other = next(step["key"] for step in steps if step["operation"] == "train" and step["key"] != key)
    result = planned.call("plan", planned.plan, "--store", planned.store, "--why", other)
    assert result.exit == 0 and "differs from" in result.out


def change(folder: Path, **changes: dict[str, Any]) -> None:
    """Change the record of a result, as if another machine had made it."""
    record = json.loads((folder / "result.json").read_text())
    for name, values in changes.items():
        record[name].update(values)
    store = Store(folder.parents[2])
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    with store.writing(folder.name) as draft:
        for name, content in files.items():
            (draft.folder / name).write_bytes(content)
        draft.finish({name: record[name] for name in ("operation", "parts", "metrics", "seconds", "made")})


def test_an_estimate_compares_like_with_like(planned: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of another device do not count, and those in several processes count with all of their time."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    first, *others = trainings(planned)
    change(first, metrics={"train_time": 200.0}, made={"device": "cpu"})  # resumed: `seconds` is of its last process
    for other in others:
        change(other, metrics={"train_time": 0.002}, made={"device": "cuda:0"})
    planned.write("train 4ep batch=128\nprune weights 20%; rewind lr\n", head=NETWORK)
    result = planned.call("plan", planned.plan, "--store", planned.store)
    assert "from 1 earlier training" in result.out
    time = json.loads(planned.call("plan", planned.plan, "--store", planned.store, "--json").out)["time"]
    assert time["seconds"] * time["jobs"] == pytest.approx(2 * 4 * 200.0), "two trainings of 4 epochs"
