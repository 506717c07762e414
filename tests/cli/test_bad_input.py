"""Everything that can be wrong around a run: one clear message with a place in it, its exit code, no traceback."""

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


def clear(said: Any, code: int, *words: str) -> None:
    assert said.exit == code, said
    for word in words:
        assert word in said.err, said.err
    assert "Traceback" not in said.err and "Error:" not in said.err


def refused(bench: Any, *arguments: object) -> Any:
    """What the argument parser says of flags that it does not take."""
    bench.capture.readouterr()
    with pytest.raises(SystemExit) as end:
        bench.call(*arguments)
    return type("Refused", (), {"exit": end.value.code, "err": bench.capture.readouterr().err})


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
def test_a_plan_that_is_none(bench: Any, content: bytes | None, code: int, word: str) -> None:
    if content is not None:
        bench.plan.write_bytes(content)
    clear(bench.run(), code, word, str(bench.plan))
    assert not bench.store.exists()


def test_a_folder_is_no_plan(bench: Any) -> None:
    bench.plan.mkdir()
    clear(bench.run(), 2, str(bench.plan))


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
def test_flags_that_mean_nothing(bench: Any, flags: tuple[str, ...], word: str) -> None:
    bench.write(ONE)
    clear(refused(bench, "run", bench.plan, *flags), 2, word)


@pytest.mark.parametrize("flag", ["--store", "--out"])
def test_a_file_where_a_folder_should_be(bench: Any, flag: str) -> None:
    bench.write(ONE)
    taken = bench.folder / "taken"
    taken.write_text("something else")
    clear(bench.run(flag, taken), 2, str(taken), "folder")
    assert taken.read_text() == "something else"


@pytest.mark.parametrize("flag", ["--store", "--out"])
def test_a_place_that_nobody_can_write(bench: Any, flag: str) -> None:
    bench.write(ONE)
    clear(bench.run(flag, "/proc/nowhere"), 2, "/proc/nowhere")


def test_a_device_that_is_not_there(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    bench.write(ONE)
    clear(bench.run("--device", "cuda"), 2, "--device cuda", "--device auto")


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_of_pictures_that_holds_none(bench: Any, made: bool) -> None:
    bench.write(f'model small-cnn\ndata folder path="{bench.folder / "pictures"}"\n{ONE}', head="")
    if made:
        (bench.folder / "pictures" / "train" / "cat").mkdir(parents=True)
    said = bench.run()
    assert said.exit in (1, 2)
    clear(said, said.exit, str(bench.folder / "pictures"))


def test_a_data_set_that_cannot_be_had(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    bench.write(f"model lenet-300-100 on mnist\n{ONE.replace('filters', 'weights')}", head="")
    clear(bench.run("--data", bench.folder / "data"), 2, "MNIST", str(bench.folder / "data"), "help: put")


def test_a_network_that_cannot_take_the_data(bench: Any) -> None:
    bench.write("model resnet18\ndata synthetic size=8 channels=1\n" + ONE, head="")
    clear(bench.run(), 1, "TD413", "channels=3")


def test_a_training_that_diverges_fails_alone(bench: Any) -> None:
    bench.write(
        "model lenet-300-100 width=0.1\ndata synthetic size=8 train=128 test=64\n"
        "arm wild { train 1ep lr=1e30; prune weights 30%; rewind lr }\n"
        "arm tame { train 1ep lr=0.1; prune weights 30%; rewind lr }\ncompare wild, tame\n",
        head="",
    )
    said = bench.run()
    clear(said, 3, "diverged", "lower lr", "events.jsonl")
    arms = {arm["id"]: arm for arm in bench.results["arms"]}
    assert [level["level"] for level in arms["tame"]["levels"]] == [0, 1]
    assert len([r for r in bench.events if isinstance(r.event, StepEnd) and r.event.status == "failed"]) == 1


def test_a_fault_of_the_engine_is_told_in_a_line(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("tickdsl.engine.steps.trainings.train", broken)
    bench.write(ONE)
    said = bench.run()
    assert said.exit == 3
    assert "failed: ZeroDivisionError: nobody thought of this" in said.err


def damage(store: Path, pattern: str, change: Callable[[bytes], bytes]) -> int:
    found = list(store.glob(pattern))
    for path in found:
        path.write_bytes(change(path.read_bytes()))
    return len(found)


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("results/*/*/weights.safetensors", lambda content: b""),
        ("results/*/*/weights.safetensors", lambda content: content[:-7]),
        ("results/*/*/result.json", lambda content: b"{"),
        ("results/*/*/structure.safetensors", lambda content: content + b"more"),
    ],
)
def test_a_damaged_store_is_made_whole(bench: Any, pattern: str, change: Callable[[bytes], bytes]) -> None:
    bench.write(ONE)
    bench.run()
    whole = bench.bits()
    assert damage(bench.store, pattern, change)
    bench.write(ONE.replace("30%", "30% x 2"))
    said = bench.run()
    clear(said, 0, "damaged")
    assert {key: bench.bits()[key] for key in whole} == whole


def test_bits_that_turned_in_a_stored_result_are_never_trained_on(bench: Any) -> None:
    bench.write(ONE)
    bench.run()
    whole = bench.bits()

    def turn(content: bytes) -> bytes:
        return content[:-1] + bytes([content[-1] ^ 1])

    assert damage(bench.store, "results/*/*/weights.safetensors", turn)
    bench.write(ONE.replace("30%", "30% x 2"))
    clear(bench.run(), 0, "damaged")
    sound = Store(bench.store)
    assert all(sound.check(key) for key in bench.ended_keys("done"))
    assert all(bench.bits()[key] == whole[key] for key in bench.ended_keys("done") if key in whole)


@pytest.mark.parametrize("content", [b"", b"tickdsl checkpoint 1 x y\n", b"\x80\x04K"])
def test_a_damaged_checkpoint_costs_only_itself(bench: Any, content: bytes) -> None:
    bench.write(ONE)
    bench.run("--store", bench.folder / "whole")
    steps = next(iter(bench.events_of("plan.resolved"))).steps
    dense = next(step.key for step in steps if step.operation == "train")
    scratch = Store(bench.store).scratch(dense)
    (scratch / "training.ckpt").write_bytes(content)
    clear(bench.run(), 0, "training.ckpt", "starts over")
    assert bench.bits() == bench.bits(bench.folder / "whole")


def test_a_full_disk_fails_the_step_and_a_later_run_goes_on(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.write(ONE)
    with monkeypatch.context() as patched:
        patched.setattr("tickdsl.engine.steps.trainings.save_weights", full)
        clear(bench.run(), 3, "no space is left", "free some space")
    assert bench.run().exit == 0


def test_two_runs_at_once_on_one_store_both_end_well(bench: Any, processes: Callable[[Any], Any]) -> None:
    bench.write(ONE)
    engines = [processes(bench.begin("--jobs", 1)) for _ in range(2)]
    for engine in engines:
        _, err = engine.communicate(timeout=60)
        assert engine.returncode == 0, err
    assert bench.run().exit == 0
    assert bench.begun == []


def test_whoever_reads_may_leave_before_the_end(bench: Any) -> None:
    bench.write(ONE)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        engine = bench.begin("--jobs", 1, stdout=gone, stderr=gone)
        assert engine.wait(timeout=60) == 0
    assert bench.last.results_json.exists()


def test_words_that_fill_the_disk_are_lost_and_the_results_are_not(bench: Any) -> None:
    bench.write(ONE + "# ok\n")
    with Path("/dev/full").open("wb") as full:
        engine = bench.begin("--jobs", 1, stdout=full, stderr=subprocess.PIPE)
        _, err = engine.communicate(timeout=60)
    assert engine.returncode == 2
    assert "the output cannot be written: No space left on device" in err and "Traceback" not in err
    assert bench.last.results_json.exists()


def test_a_dumb_or_narrow_terminal_gets_no_control_codes(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    bench.write(ONE)
    said = bench.run()
    assert "\x1b" not in said.out + said.err and "\r" not in said.err
    assert max(map(len, said.out.splitlines())) <= 40


def test_interrupted_before_anything_began(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def early(*arguments: object, **more: object) -> None:
        signal.raise_signal(signal.SIGINT)  # to this thread: pytest's helpers have others

    monkeypatch.setattr("tickdsl.engine.study.lower", early)
    bench.write(ONE)
    clear(bench.run(), 130, "interrupted")
