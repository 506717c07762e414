"""The TensorBoard files of a run, read back record by record: complete, without duplicates, one folder per seed."""

from __future__ import annotations

import json
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from tickdsl.records.events import Checkpoint

PLAN = "seeds 2\narm a { prune filters 30% x 2; rewind weights to 1ep }\ncompare a, random-init, dense\n"


def events(path: Path) -> Iterator[Event]:
    """The events of a file; checks every checksum and that the last record is complete."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(content[:8])
        data = content[12 : 12 + length]
        assert struct.unpack("<I", content[12 + length : 16 + length])[0] == masked_crc32c(data)
        yield Event.FromString(data)
        content = content[16 + length :]


def read(tb: Path) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """Lists of (step, value) in file order, by tag and folder."""
    found: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for path in tb.rglob("events.out.tfevents.*"):
        folder = path.parent.relative_to(tb).as_posix()
        assert folder not in found, "two files in one folder"
        first, *rest = events(path)
        assert first.file_version == "brain.Event:2"
        series = found[folder] = defaultdict(list)
        for event in rest:
            for value in event.summary.value:
                series[value.tag].append((event.step, value))
    return found


def steps(series: dict[str, list[tuple[int, Any]]], tag: str) -> list[int]:
    return [step for step, _ in series[tag]]


def test_a_folder_for_each_arm_seed_and_control(harness: Any) -> None:
    harness.write(PLAN)
    assert harness.run().exit == 0
    found = read(harness.last_run.tensorboard)
    assert set(found) == {"a/seed-1", "a/seed-2", "a/random-init/seed-1", "a/random-init/seed-2"}
    ticket, control = found["a/seed-1"], found["a/random-init/seed-1"]
    for figure in ("train_loss", "test_loss", "accuracy", "learning_rate"):
        assert steps(ticket, f"{figure}/round-00") == [1, 2]
        assert steps(ticket, f"{figure}/round-02") == [2]  # rewound to the first epoch
        assert steps(control, f"{figure}/round-02") == [1, 2]
    assert steps(control, "accuracy/by-round") == [1, 2]
    scalars = [tag for tag in ticket if not tag.startswith("_")]
    assert min(scalars) == "accuracy/by-round", "TensorBoard opens on the first tag"
    for figure in ("sparsity", "params", "macs"):
        assert steps(ticket, f"round/{figure}") == [0, 1, 2]
        assert steps(control, f"round/{figure}") == [1, 2]
    assert steps(ticket, "structure/layers/text_summary") == [1, 2]
    assert steps(ticket, "structure/weights_left") == [1, 2]
    assert ticket["structure/weights_left"][-1][1].image.encoded_image_string.startswith(b"\x89PNG")


def test_the_figures_are_those_of_the_results(harness: Any) -> None:
    harness.write(PLAN)
    harness.run()
    found = read(harness.last_run.tensorboard)
    for arm in json.loads(harness.last_run.results_json.read_text())["arms"]:
        for level in arm["levels"]:
            for name, contestant in level["contestants"].items():
                control = "" if name in ("dense", "ticket") else f"{name}/"
                for seed in contestant["seeds"]:
                    series = found[f"{arm['id']}/{control}seed-{seed['seed']}"]
                    tags = {"accuracy": "accuracy/by-round", "params": "round/params", "sparsity": "round/sparsity"}
                    for figure, tag in tags.items():
                        there = {step: value.simple_value for step, value in series[tag]}
                        assert there[level["level"]] == pytest.approx(seed[figure])
    last = found["a/seed-1"]
    assert last["final/accuracy"][0][1].simple_value == last["accuracy/by-round"][-1][1].simple_value
    assert {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"} <= set(last)


def test_histograms_count_the_weights_that_are_kept(harness: Any) -> None:
    harness.write("prune weights global 50% x 1; rewind weights to init\n")
    harness.run()
    series = next(iter(read(harness.last_run.tensorboard).values()))
    kept = [
        sum(value.histo.num for tag in series if tag.startswith("weights/") for at, value in series[tag] if at == level)
        for level in (0, 1)
    ]
    assert kept[1] == pytest.approx(kept[0] / 2, abs=1)
    for tag in series:
        for _, value in series[tag] if tag.startswith("weights/") else ():
            assert sum(value.histo.bucket) == value.histo.num


def test_the_histories_of_stored_steps_are_written_too(harness: Any) -> None:
    harness.write(PLAN)
    harness.run()
    first = read(harness.last_run.tensorboard)
    time.sleep(1.0)  # the next run needs another folder name
    harness.run()
    again = read(harness.last_run.tensorboard)
    assert not harness.started_steps

    def figures(found: dict[str, Any]) -> dict[tuple[str, str], list[tuple[int, bytes]]]:
        return {
            (folder, tag): [(step, value.SerializeToString()) for step, value in points]
            for folder, series in found.items()
            for tag, points in series.items()
        }

    assert figures(again) == figures(first)


def test_no_tensorboard(harness: Any) -> None:
    harness.write("prune weights 20% x 1; rewind weights to init\n")
    assert harness.run("--no-tensorboard").exit == 0
    assert not harness.last_run.tensorboard.exists()


def test_a_write_error_is_a_warning(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write("prune weights 20% x 1; rewind weights to init\n")
    before = Path.open

    def full(path: Path, *arguments: Any, **more: Any) -> Any:
        if "tfevents" in path.name:
            raise OSError(28, "No space left on device")
        return before(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", full)
    result = harness.run()
    assert result.exit == 0
    assert "warning: stopped writing for TensorBoard: no space left on the disk" in result.err


@pytest.mark.slow
def test_the_curves_of_a_resumed_run_are_complete(
    harness: Any, processes: Callable[[subprocess.Popen[str]], subprocess.Popen[str]]
) -> None:
    harness.write(
        "train 20ep lr=0.01 batch=16\nprune weights 20% x 1; rewind weights to init\n",
        head="model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n",
    )
    engine = processes(harness.start_process("--plain", "--jobs", 1, "--checkpoint-every", 0))
    deadline = time.monotonic() + 60
    while not saved(harness):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    engine.kill()
    engine.wait()
    reached = max(event.epoch for event in harness.events_of("checkpoint"))
    assert 2 < reached < 20
    time.sleep(1.0)
    assert harness.run().exit == 0
    assert harness.events_of("step.progress")[0].epoch > 2  # continued from the checkpoint
    (series,) = read(harness.last_run.tensorboard).values()
    for figure in ("train_loss", "test_loss", "accuracy", "learning_rate"):
        for level in (0, 1):
            assert steps(series, f"{figure}/round-{level:02}") == list(range(1, 21))


def saved(harness: Any) -> bool:
    """The epoch of a checkpoint in the middle of the first training, if there is one."""
    try:
        return any(isinstance(r.event, Checkpoint) and r.event.epoch > 3 for r in harness.events)
    except Exception as error:  # the run has not created its folder yet
        assert "no run" in str(error) or "No such file" in str(error), error
        return False
