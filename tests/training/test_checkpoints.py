"""A training that is interrupted anywhere ends with bit-identical weights to an uninterrupted one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.history import TrainingHistory
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe

STEPS = 12
MASKS = {"1.conv2.weight": torch.arange(32 * 16 * 9).view(32, 16, 3, 3) % 3 > 0}


class Stop(Exception):
    """Raised by `before_step` to interrupt a training."""


class Tiny:
    """A small training with augmentation, dropout, momentum and masks."""

    def __init__(self, optimizer: str) -> None:
        self.data = datasets.load(
            "synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4}
        )
        self.recipe = Recipe(
            length="3ep", optimizer=optimizer, lr=0.02, batch=32, decay=5e-4, schedule="one-cycle",
            augment=("crop", "flip", "rotation"), label_smoothing=0.1,
        )  # fmt: skip

    def model(self) -> torch.nn.Module:
        model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)
        return torch.nn.Sequential(torch.nn.Dropout(0.1), model)

    def run(self, model: torch.nn.Module, folder: Path | None, stop_at: int | None = None) -> TrainingHistory:
        checkpoints = Checkpointer(folder, every_seconds=0) if folder else None
        steps = 0

        def before_step() -> None:
            nonlocal steps
            if steps == stop_at:
                raise Stop
            steps += 1

        return train(
            model, self.data, self.recipe, seed=7, masks=MASKS, checkpoint=checkpoints, before_step=before_step
        )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interruptions=st.lists(st.integers(0, STEPS - 1), max_size=4))
def test_interrupted_trainings_end_as_uninterrupted_ones(
    tmp_path: Path, optimizer: str, interruptions: list[int]
) -> None:
    tiny = Tiny(optimizer)
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    expected = tiny.model()
    history = tiny.run(expected, None)
    remaining = STEPS
    for stop_at in interruptions:
        if stop_at < remaining:
            with pytest.raises(Stop):
                tiny.run(tiny.model(), folder, stop_at=stop_at)
            remaining -= stop_at
    resumed = tiny.model()
    assert tiny.run(resumed, folder) == history
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


def test_save_now_saves_the_current_step(tmp_path: Path) -> None:
    tiny = Tiny("sgd")
    checkpoints = Checkpointer(tmp_path, every_seconds=1e9)
    seen = 0

    def before_step() -> None:
        nonlocal seen
        if seen == 5:
            checkpoints.save_now()
            raise Stop
        seen += 1

    with pytest.raises(Stop):
        train(tiny.model(), tiny.data, tiny.recipe, seed=7, checkpoint=checkpoints, before_step=before_step)
    resumed: list[int] = []
    train(tiny.model(), tiny.data, tiny.recipe, seed=7, checkpoint=checkpoints, before_step=lambda: resumed.append(1))
    assert len(resumed) == STEPS - 5


class Disk:
    """A disk that blocks each write until `release` is set, and then fails if `error` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.release = threading.Event()
        self.files, self.threads = 0, 0
        self.error: OSError | None = None
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, handle: int) -> None:
        self.files += 1
        self.threads = max(self.threads, sum(t.name.startswith("checkpoint") for t in threading.enumerate()))
        assert self.release.wait(30)
        if self.error is not None:
            raise self.error


def test_a_training_goes_on_while_one_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, disk = Tiny("sgd"), Disk(monkeypatch)
    steps, saved_steps = 0, []
    training_thread = threading.get_ident()

    def before_step() -> None:
        nonlocal steps
        steps += 1
        if steps == 8:  # the first checkpoint is still being written
            assert not saved_steps
            disk.release.set()
        if steps > 8:
            time.sleep(0.05)

    def on_saved(step: int) -> None:
        assert threading.get_ident() == training_thread
        saved_steps.append(step)

    model, expected = tiny.model(), tiny.model()
    checkpoints = Checkpointer(tmp_path, every_seconds=0, on_saved=on_saved)
    train(model, tiny.data, tiny.recipe, seed=7, masks=MASKS, checkpoint=checkpoints, before_step=before_step)
    assert steps == STEPS
    assert saved_steps[0] == 1  # the step when saving began, not when it ended
    assert saved_steps[1] >= 8
    assert disk.threads == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]
    tiny.run(expected, None)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_checkpoint_holds_the_state_when_saving_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    state = {"step": 3, "model": {"w": torch.zeros(4)}, "seen": [torch.ones(2), (torch.ones(1), 5)]}
    checkpoints = Checkpointer(tmp_path, every_seconds=0)
    checkpoints.attach("a" * 64, lambda: state)
    checkpoints.save_if_due()
    state["model"]["w"].fill_(9)  # type: ignore[index, call-overload]
    disk.release.set()
    checkpoints.detach()
    checkpoints.attach("a" * 64, lambda: state)
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded["model"]["w"].tolist() == [0] * 4
    assert loaded["seen"][1][1] == 5


def test_a_write_error_is_raised_at_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, disk = Tiny("sgd"), Disk(monkeypatch)
    disk.error = OSError(28, "No space left on device")
    disk.release.set()
    with pytest.raises(TickdslError, match="No space left"):
        train(
            tiny.model(), tiny.data, tiny.recipe, seed=7, before_step=lambda: time.sleep(0.05),
            checkpoint=Checkpointer(tmp_path, every_seconds=0),
        )  # fmt: skip
    assert disk.files == 1
    assert not list(tmp_path.iterdir())


def test_save_now_waits_for_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, disk = Tiny("sgd"), Disk(monkeypatch)
    checkpoints = Checkpointer(tmp_path, every_seconds=0)
    steps = 0

    def before_step() -> None:
        nonlocal steps
        if steps == 4:  # the checkpoint of step 1 is still being written
            threading.Timer(0.1, disk.release.set).start()
            checkpoints.save_now()
            raise Stop
        steps += 1

    with pytest.raises(Stop):
        train(tiny.model(), tiny.data, tiny.recipe, seed=7, checkpoint=checkpoints, before_step=before_step)
    resumed: list[int] = []
    train(
        tiny.model(),
        tiny.data,
        tiny.recipe,
        seed=7,
        checkpoint=Checkpointer(tmp_path),
        before_step=lambda: resumed.append(1),
    )
    assert len(resumed) == STEPS - 4


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content[:-10], "damaged"),
        (lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], "damaged"),
        (lambda content: b"", "not a checkpoint of this version"),
        (lambda content: b"PK something else", "not a checkpoint of this version"),
        (lambda content: content.replace(content.split()[3], b"0" * 64, 1), "another training"),
    ],
)
def test_an_unusable_checkpoint_is_ignored_with_a_warning(tmp_path: Path, spoil, reason: str) -> None:  # type: ignore[no-untyped-def]
    tiny = Tiny("sgd")
    with pytest.raises(Stop):
        tiny.run(tiny.model(), tmp_path, stop_at=6)
    warnings: list[str] = []
    checkpoints = Checkpointer(tmp_path, warn=warnings.append)
    checkpoints.path.write_bytes(spoil(checkpoints.path.read_bytes()))
    expected, model = tiny.model(), tiny.model()
    tiny.run(expected, None)
    train(model, tiny.data, tiny.recipe, seed=7, masks=MASKS, checkpoint=checkpoints)
    assert len(warnings) == 1
    assert reason in warnings[0]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_training_with_another_seed_does_not_resume(tmp_path: Path) -> None:
    tiny = Tiny("sgd")
    with pytest.raises(Stop):
        tiny.run(tiny.model(), tmp_path, stop_at=6)
    warnings: list[str] = []
    train(tiny.model(), tiny.data, tiny.recipe, seed=8, checkpoint=Checkpointer(tmp_path, warn=warnings.append))
    assert "another training" in warnings[0]


def test_a_folder_that_cannot_be_created_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TickdslError, match="cannot write the checkpoint"):
        Tiny("sgd").run(Tiny("sgd").model(), tmp_path / "file")


_PROGRAM = """
import hashlib, json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
folder, pause = sys.argv[1], float(sys.argv[2])
tiny = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})
model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)
recipe = Recipe(length="6ep", lr=0.02, batch=32, augment=("crop",))
steps = []
train(model, tiny, recipe, seed=7, checkpoint=Checkpointer(folder, every_seconds=0),
      before_step=lambda: (steps.append(1), time.sleep(pause)))
digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in model.state_dict().values())).hexdigest()
print(json.dumps({"steps": len(steps), "digest": digest}))
"""


@pytest.mark.slow
def test_a_killed_process_resumes_with_the_same_result(tmp_path: Path) -> None:
    def command(folder: Path, pause: float) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(folder), str(pause)]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(killed, 0.05), env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(killed.glob("*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    def finish(folder: Path) -> dict[str, object]:
        completed = subprocess.run(command(folder, 0), env=environment, check=True, capture_output=True, text=True)
        result: dict[str, object] = json.loads(completed.stdout)
        return result

    resumed, uninterrupted = finish(killed), finish(tmp_path / "uninterrupted")
    assert resumed["digest"] == uninterrupted["digest"]
    assert 0 < resumed["steps"] < uninterrupted["steps"] == 24  # type: ignore[operator]


_SECOND_HANGS = """
import os, sys, time
calls = []
forced = os.fsync
def fsync(handle):
    calls.append(handle)
    if len(calls) == 2:
        print("writing", flush=True)
        time.sleep(600)
    forced(handle)
os.fsync = fsync
"""


@pytest.mark.slow
@pytest.mark.parametrize("failures", [2, 100])
def test_a_checkpoint_that_cannot_be_read_is_not_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """An error that passes is not noticed; one that stays is reported, instead of training from the start."""
    saving = Checkpointer(tmp_path)
    saving.attach("identity", lambda: {"step": 7})
    saving.save_now()
    saving.detach()
    read, failed = Path.read_bytes, []

    def read_or_fail(path: Path) -> bytes:
        if path.name == saving.path.name and len(failed) < failures:
            failed.append(path)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_or_fail)
    monkeypatch.setattr("tickdsl.patient_reads.time.sleep", lambda seconds: None)
    resuming = Checkpointer(tmp_path)
    resuming.attach("identity", lambda: {"step": 0})
    if failures < 5:
        assert resuming.load() == {"step": 7}
        return
    with pytest.raises(TickdslError, match="cannot read the checkpoint") as caught:
        resuming.load()
    assert os.strerror(errno.ESTALE) in caught.value.message and "remove the file" in (caught.value.hint or "")


def test_a_kill_during_a_write_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SECOND_HANGS + _PROGRAM, str(tmp_path), "0.02"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    warnings: list[str] = []
    resumed: list[int] = []
    tiny = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})
    model = models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=0)
    recipe = Recipe(length="6ep", lr=0.02, batch=32, augment=("crop",))
    train(
        model, tiny, recipe, seed=7, checkpoint=Checkpointer(tmp_path, warn=warnings.append),
        before_step=lambda: resumed.append(1),
    )  # fmt: skip
    assert not warnings
    assert len(resumed) == 24 - 1
