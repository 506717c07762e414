"""Bad input of every kind gives one clear message with its place, the right exit code, and no traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tickdsl.records import Store
from tickdsl.records.events import StepEnd

ONE = "prune filters 30%; rewind lr\n"


def assert_clear_error(completed: Any, code: int, *words: str) -> None:
    assert completed.exit == code, completed
    for word in words:
        assert word in completed.err, completed.err
    assert "Traceback" not in completed.err and "Error:" not in completed.err


def call_rejected(harness: Any, *arguments: object) -> Any:
    """Call the command line with arguments that the parser rejects."""
    harness.capture.readouterr()
    with pytest.raises(SystemExit) as end:
        harness.call(*arguments)
    return type("Refused", (), {"exit": end.value.code, "err": harness.capture.readouterr().err})


@pytest.mark.parametrize(
    ("content", "code", "word"),
    [
        (None, 2, "no such file"),
        (b"", 1, "TD002"),
        (b"\xff\xfe\x00\x01" * 40, 2, "UTF-8"),
        (b"\x00" * 40, 1, "TD004"),
        (b"prune filters 20% x 8; rewind", 1, "TD001"),
    ],
)
def test_a_file_that_is_not_a_plan(harness: Any, content: bytes | None, code: int, word: str) -> None:
    if content is not None:
        harness.plan.write_bytes(content)
    assert_clear_error(harness.run(), code, word, str(harness.plan))
    assert not harness.store.exists()


def test_a_folder_is_not_a_plan(harness: Any) -> None:
    harness.plan.mkdir()
    assert_clear_error(harness.run(), 2, str(harness.plan))


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--jobs", "0"), "--jobs"),
        (("--jobs", "two"), "--jobs"),
        (("--checkpoint-every", "-1"), "--checkpoint-every"),
        (("--checkpoint-every", "nan"), "--checkpoint-every"),
        (("--set", "x"), "NAME=VALUE"),
        (("--device", "tpu"), "--device"),
        (("--frehs",), "--frehs"),
    ],
)
def test_invalid_flags(harness: Any, flags: tuple[str, ...], word: str) -> None:
    harness.write(ONE)
    assert_clear_error(call_rejected(harness, "run", harness.plan, *flags), 2, word)


@pytest.mark.parametrize("flag", ["--store", "--out"])
def test_a_file_where_a_folder_should_be(harness: Any, flag: str) -> None:
    harness.write(ONE)
    taken = harness.folder / "taken"
    taken.write_text("something else")
    assert_clear_error(harness.run(flag, taken), 2, str(taken), "folder")
    assert taken.read_text() == "something else"


@pytest.mark.parametrize("flag", ["--store", "--out"])
def test_a_folder_that_cannot_be_written(harness: Any, flag: str) -> None:
    harness.write(ONE)
    assert_clear_error(harness.run(flag, "/proc/nowhere"), 2, "/proc/nowhere")


def test_a_missing_device(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    harness.write(ONE)
    assert_clear_error(harness.run("--device", "cuda"), 2, "--device cuda", "--device auto")


def test_a_precision_that_the_device_does_not_have(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the first step, and costs nothing where the results are stored."""
    head = "data digits; model lenet-300-100 width=0.1; train 1ep precision=tf32; seeds 1\n"
    harness.write("prune weights 30%; rewind lr\n", head)
    assert_clear_error(harness.run("--device", "cpu"), 2, "precision=tf32", "precision=fp32")
    assert not (harness.folder / "runs").exists()
    with monkeypatch.context() as patches:
        patches.setattr("tickdsl.training.devices.has_tf32", lambda device: True)
        assert harness.run("--device", "cpu").exit == 0
    assert harness.run("--device", "cpu").exit == 0


@pytest.mark.parametrize("made", [False, True])
def test_an_image_folder_without_images(harness: Any, made: bool) -> None:
    harness.write(f'model small-cnn\ndata folder path="{harness.folder / "pictures"}"\n{ONE}', head="")
    if made:
        (harness.folder / "pictures" / "train" / "cat").mkdir(parents=True)
    completed = harness.run()
    assert completed.exit in (1, 2)
    assert_clear_error(completed, completed.exit, str(harness.folder / "pictures"))


def test_a_data_set_that_cannot_be_downloaded(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    harness.write(f"model lenet-300-100 on mnist\n{ONE.replace('filters', 'weights')}", head="")
    assert_clear_error(
        harness.run("--data", harness.folder / "data"), 2, "MNIST", str(harness.folder / "data"), "help: put"
    )


def test_a_network_that_cannot_process_the_data(harness: Any) -> None:
    harness.write("model resnet18\ndata synthetic size=8 channels=1\n" + ONE, head="")
    assert_clear_error(harness.run(), 1, "TD413", "channels=3")


def test_a_training_that_diverges_fails_alone(harness: Any) -> None:
    harness.write(
        "model lenet-300-100 width=0.1\ndata synthetic size=8 train=128 test=64\n"
        "arm wild { train 1ep lr=1e30; prune weights 30%; rewind lr }\n"
        "arm tame { train 1ep lr=0.1; prune weights 30%; rewind lr }\ncompare wild, tame\n",
        head="",
    )
    completed = harness.run()
    assert_clear_error(completed, 3, "diverged", "lower lr", "events.jsonl")
    arms = {arm["id"]: arm for arm in harness.results["arms"]}
    assert [level["level"] for level in arms["tame"]["levels"]] == [0, 1]
    assert len([r for r in harness.events if isinstance(r.event, StepEnd) and r.event.status == "failed"]) == 1


def test_a_bug_in_the_engine_is_reported_in_one_line(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("tickdsl.engine.steps.trainings.train", broken)
    harness.write(ONE)
    completed = harness.run()
    assert completed.exit == 3
    assert "failed: ZeroDivisionError: nobody thought of this" in completed.err


def damage(store: Path, pattern: str, change: Callable[[bytes], bytes]) -> int:
    found = list(store.glob(pattern))
    for path in found:
        path.write_bytes(change(path.read_bytes()))
    return len(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("results/*/*/weights.safetensors", lambda content: b""),
        ("results/*/*/weights.safetensors", lambda content: content[:-7]),
        ("results/*/*/result.json", lambda content: b"{"),
        ("results/*/*/structure.safetensors", lambda content: content + b"more"),
    ],
)
def test_a_damaged_store_is_repaired(harness: Any, pattern: str, change: Callable[[bytes], bytes]) -> None:
    harness.write(ONE)
    harness.run()
    whole = harness.weight_bytes()
    assert damage(harness.store, pattern, change)
    harness.write(ONE.replace("30%", "30% x 2"))
    completed = harness.run()
    assert_clear_error(completed, 0, "damaged")
    assert {key: harness.weight_bytes()[key] for key in whole} == whole


def test_a_flipped_bit_in_a_stored_result_is_detected(harness: Any) -> None:
    harness.write(ONE)
    harness.run()
    whole = harness.weight_bytes()

    def turn(content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1])

    assert damage(harness.store, "results/*/*/weights.safetensors", turn)
    harness.write(ONE.replace("30%", "30% x 2"))
    assert_clear_error(harness.run(), 0, "damaged")
    sound = Store(harness.store)
    assert all(sound.check(key) for key in harness.ended_keys("done"))
    assert all(harness.weight_bytes()[key] == whole[key] for key in harness.ended_keys("done") if key in whole)


@pytest.mark.parametrize("content", [b"", b"tickdsl checkpoint 1 x y\n", b"\x80\x04K"])
def test_a_damaged_checkpoint_costs_only_itself(harness: Any, content: bytes) -> None:
    harness.write(ONE)
    harness.run("--store", harness.folder / "whole")
    steps = next(iter(harness.events_of("plan.resolved"))).steps
    dense = next(step.key for step in steps if step.operation == "train")
    scratch = Store(harness.store).scratch(dense)
    (scratch / "training.ckpt").write_bytes(content)
    assert_clear_error(harness.run(), 0, "training.ckpt", "starts over")
    assert harness.weight_bytes() == harness.weight_bytes(harness.folder / "whole")


def test_a_full_disk_fails_the_step_and_a_later_run_continues(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    harness.write(ONE)
    with monkeypatch.context() as patched:
        patched.setattr("tickdsl.engine.steps.trainings.save_weights", full)
        assert_clear_error(harness.run(), 3, "no space left on the disk", "free some disk space")
    assert harness.run().exit == 0


@pytest.mark.slow
def test_two_concurrent_runs_with_one_store_succeed(harness: Any, processes: Callable[[Any], Any]) -> None:
    harness.write(ONE)
    engines = [processes(harness.start_process("--jobs", 1)) for _ in range(2)]
    for engine in engines:
        _, err = engine.communicate(timeout=60)
        assert engine.returncode == 0, err
    assert harness.run().exit == 0
    assert harness.started_steps == []


def test_a_reader_may_close_the_pipe_early(harness: Any) -> None:
    harness.write(ONE)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        engine = harness.start_process("--jobs", 1, stdout=gone, stderr=gone)
        assert engine.wait(timeout=60) == 0
    assert harness.last_run.results_json.exists()


@pytest.mark.slow
def test_output_to_a_full_disk_is_lost_but_results_are_not(harness: Any) -> None:
    harness.write(ONE + "# ok\n")
    with Path("/dev/full").open("wb") as full:
        engine = harness.start_process("--jobs", 1, stdout=full, stderr=subprocess.PIPE)
        _, err = engine.communicate(timeout=60)
    assert engine.returncode == 2
    assert "cannot write the output: No space left on device" in err and "Traceback" not in err
    assert harness.last_run.results_json.exists()


def test_a_dumb_or_narrow_terminal_gets_no_control_codes(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    harness.write(ONE)
    completed = harness.run()
    assert "\x1b" not in completed.out + completed.err and "\r" not in completed.err
    assert max(map(len, completed.out.splitlines())) <= 40


def test_interrupted_before_the_first_step(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def early(*arguments: object, **more: object) -> None:
        signal.raise_signal(signal.SIGINT)  # in this thread; pytest plug-ins have their own

    monkeypatch.setattr("tickdsl.engine.prepare_study.lower", early)
    harness.write(ONE)
    assert_clear_error(harness.run(), 130, "interrupted")
