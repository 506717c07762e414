"""Streamed images are those that are held in memory, trainings on them are the same, and what goes wrong is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_files import encoded, write_archive, write_folder
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset, take_part
from tickdsl.training.data.streaming import decoder_pool as pools
from tickdsl.training.data.streaming.decoder_pool import DecoderPool, decoder_pool
from tickdsl.training.data.streaming.images import StreamedImages, batches
from tickdsl.training.history import TrainingHistory
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.distillation import Distillation

LABELS = ("cat", "dog", "eel")


def photographs(seed: int = 0, train: int = 17, test: int = 5) -> dict[str, bytes]:
    """Noise in JPEG files, of different sizes, with copies of some."""
    draw = np.random.default_rng(seed)
    return {
        f"{split}/{label}/{n:02}.jpg": encoded(draw.integers(0, 255, (9 + n % 4, 11, 3), dtype=np.uint8), form="JPEG")
        for split, count in (("train", train), ("test", test))
        for label in LABELS
        for n in range(count)
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "pets", photographs())


def load(path: Path, how: str, **options: Any) -> Dataset:
    chosen = {"path": str(path), "size": 8, "load": how, **options}
    return datasets.load("folder", root=path.parent / "root", options=chosen)


def images(inputs: Any) -> StreamedImages:
    assert isinstance(inputs, StreamedImages)
    return inputs


def decoded(inputs: Tensor) -> Tensor:
    return torch.cat(list(batches(inputs, 7)))


def assert_equal(streamed: Dataset, resident: Dataset) -> None:
    assert streamed.fingerprint == resident.fingerprint
    assert (streamed.shape, streamed.class_names) == (resident.shape, resident.class_names)
    assert torch.equal(streamed.mean, resident.mean) and torch.equal(streamed.std, resident.std)
    sets = ((streamed.train_inputs, streamed.train_targets), streamed.test_set, streamed.validation_set)
    others = ((resident.train_inputs, resident.train_targets), resident.test_set, resident.validation_set)
    for ours, theirs in zip(sets, others, strict=True):
        assert (ours is None) is (theirs is None)
        if ours is not None and theirs is not None:
            assert isinstance(theirs[0], Tensor)
            assert torch.equal(decoded(images(ours[0])), theirs[0])  # type: ignore[arg-type]
            assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    "options", [{}, {"validation": 0.2}, {"samples": 20}, {"samples": 30, "validation": 0.3}], ids=str
)
def test_streamed_data_are_the_resident_ones(folder: Path, options: dict[str, Any]) -> None:
    assert_equal(load(folder, "stream", **options), load(folder, "resident", **options))


def test_grey_deep_and_transparent_images_are_converted_alike(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    grey = {
        f"{s}/{c}/{n}.png": encoded(draw.integers(0, 255, (8, 8), dtype=np.uint8))
        for s in ("train", "test")
        for c in "ab"
        for n in range(4)
    }
    deep = {name: encoded(draw.integers(0, 3000, (8, 8), dtype=np.uint16)) for name in grey}
    clear = {name: encoded(draw.integers(0, 255, (8, 8, 4), dtype=np.uint8)) for name in grey}
    for number, files in enumerate((grey, deep, clear, {**grey, "train/a/0.png": clear["train/a/0.png"]})):
        path = write_folder(tmp_path / f"pets{number}", files)
        assert_equal(load(path, "stream", validation=0.25), load(path, "resident", validation=0.25))
    assert_equal(load(tmp_path / "pets0", "stream", channels=3), load(tmp_path / "pets0", "resident", channels=3))


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_archives_are_streamed_from_a_copy_of_their_images(tmp_path: Path, suffix: str) -> None:
    path = write_archive(tmp_path / f"pets{suffix}", photographs())
    assert_equal(load(path, "stream"), load(path, "resident"))
    assert_equal(load(path, "stream"), load(path, "resident"))  # from the copy


def test_a_share_for_testing_is_the_same(tmp_path: Path) -> None:
    files = {name.removeprefix("train/"): content for name, content in photographs().items() if "train/" in name}
    path = write_folder(tmp_path / "pets", files)
    assert_equal(load(path, "stream", test=0.2), load(path, "resident", test=0.2))


def test_parts_stay_encoded(folder: Path) -> None:
    for by, parts in (("classes", 3), ("samples", 2)):
        ours, theirs = (take_part(load(folder, how), by=by, parts=parts, index=1) for how in ("stream", "resident"))
        assert_equal(attrs.evolve(ours, fingerprint=theirs.fingerprint), theirs)


def test_large_data_are_streamed_and_small_ones_are_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load(folder, "auto").train_inputs, Tensor)
    monkeypatch.setattr("tickdsl.training.data.readers.folder.is_too_large", lambda size: size >= 66 * 8 * 8 * 3)
    assert isinstance(load(folder, "auto").train_inputs, StreamedImages)


# -- trainings

RECIPE = Recipe(length="3ep", lr=0.05, batch=8, augment=("crop", "flip", "rotation"))


def network(seed: int = 0) -> torch.nn.Module:
    return models.create("small-cnn", classes=3, shape=(3, 8, 8), seed=seed, options={"width": 0.25})


def equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    "augment", [(), ("crop",), ("flip",), ("rotation",), ("crop", "rotation", "RandomErasing")], ids=str
)
def test_trainings_have_equal_bits(folder: Path, augment: tuple[str, ...]) -> None:
    recipe = attrs.evolve(RECIPE, augment=augment)
    ours, theirs = network(), network()
    options = {"validation": 0.2}
    streamed = train(ours, load(folder, "stream", **options), recipe, seed=4)
    assert streamed == train(theirs, load(folder, "resident", **options), recipe, seed=4)
    assert equal(ours, theirs)
    assert streamed.data_bytes > 0


def test_a_distilled_training_has_equal_bits(folder: Path) -> None:
    recipe = attrs.evolve(RECIPE, augment=())
    ours, theirs = network(), network()
    for model, how in ((ours, "stream"), (theirs, "resident")):
        train(model, load(folder, how), recipe, seed=4, distillation=Distillation(network(1), 4.0, 0.5))
    assert equal(ours, theirs)


class Stop(Exception):
    pass


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stop_at=st.integers(0, 20))
def test_a_streamed_training_continues_from_any_step(folder: Path, tmp_path: Path, stop_at: int) -> None:
    where = Path(tempfile.mkdtemp(dir=tmp_path))
    data = load(folder, "stream")

    def run(model: torch.nn.Module, stop: int | None = None, **more: Any) -> TrainingHistory:
        steps = 0

        def before_step() -> None:
            nonlocal steps
            if steps == stop:
                raise Stop
            steps += 1

        return train(model, data, RECIPE, seed=4, before_step=before_step, **more)

    expected, resumed = network(), network()
    history = run(expected)
    with pytest.raises(Stop):
        run(network(), stop_at, checkpoint=Checkpointer(where, every_seconds=0))
    assert run(resumed, checkpoint=Checkpointer(where, every_seconds=0)) == history
    assert equal(resumed, expected)


# -- what goes wrong


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pool of one process of its own."""
    pool = DecoderPool(1)
    monkeypatch.setitem(pools._pools, os.getpid(), pool)
    yield pool
    pool.close()


def test_a_damaged_image_is_named_when_the_data_are_read(tmp_path: Path) -> None:
    files = photographs()
    files["train/dog/03.jpg"] = files["train/dog/03.jpg"][:100]
    path = write_folder(tmp_path / "pets", files)
    messages = []
    for how in ("stream", "resident"):
        with pytest.raises(TickdslError, match=r"train/dog/03\.jpg") as raised:
            load(path, how)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


def test_an_image_that_changes_while_it_is_used_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "pets", photographs())
    data = load(path, "stream")
    other = photographs(seed=9)
    (path / "train/eel/05.jpg").write_bytes(other["train/eel/05.jpg"])
    with pytest.raises(TickdslError, match=r"pets: the image train/eel/05.jpg changed"):
        train(network(), data, RECIPE, seed=1)
    (path / "train/eel/05.jpg").unlink()
    with pytest.raises(TickdslError, match=r"cannot read .*05.jpg: No such file"):
        decoded(data.train_inputs)


def test_a_process_that_is_killed_is_replaced(folder: Path, pool: DecoderPool) -> None:
    data, expected = load(folder, "stream"), load(folder, "resident").train_inputs
    for _ in range(3):
        assert torch.equal(decoded(data.train_inputs), expected)
        (child,) = pool._children
        child.kill()
        child.wait()


def test_a_request_that_kills_every_process_fails_with_a_message(
    folder: Path, pool: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(folder, "stream")
    monkeypatch.setattr(pools, "_MODULE", "this")  # a process that says something else and ends
    for child in list(pool._children):
        child.kill()
        child.wait()
    with pytest.raises(TickdslError, match="a process that decodes images was lost, twice"):
        decoded(data.train_inputs)
    monkeypatch.undo()
    monkeypatch.setitem(pools._pools, os.getpid(), pool)
    assert len(decoded(data.train_inputs)) == 51


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs signals")
def test_the_processes_end_with_the_one_that_started_them(folder: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from tickdsl.training.data import datasets
        from tickdsl.training.data.streaming.decoder_pool import decoder_pool
        data = datasets.load("folder", root=Path({str(folder.parent / "root")!r}),
                             options={{"path": {str(folder)!r}, "size": 8, "load": "stream"}})
        data.train_inputs[:20]
        print(*[child.pid for child in decoder_pool()._children], flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert children
        parent.send_signal(signal.SIGKILL)
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and len(gone) == len(children)


def test_batches_that_nobody_needs_are_given_up(folder: Path, pool: DecoderPool) -> None:
    data = images(load(folder, "stream").train_inputs)
    waiting = [data.request(slice(0, 40)) for _ in range(50)]
    for pending in waiting:
        pending.cancel()
    started = time.monotonic()
    assert len(data[:5]) == 5
    assert time.monotonic() - started < 20


def test_the_pool_is_that_of_the_process() -> None:
    assert decoder_pool() is decoder_pool()
    assert 1 <= decoder_pool().processes <= 8
