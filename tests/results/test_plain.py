"""Plain progress output during a run, in a log and in a terminal, with a fake clock."""

import io
from collections.abc import Iterable

import attrs
import pytest
from finished_runs import RUN

from tickdsl.records import EventRecord
from tickdsl.records.events import (
    ArmInfo,
    ControlAck,
    Event,
    Log,
    MeasurementInfo,
    Metric,
    PlanResolved,
    RunEnd,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
    Warn,
)
from tickdsl.results.plain_progress import PlainProgress, can_redraw


def step(id: str, operation: str, epochs: float | None = None, stored: bool = False) -> StepInfo:
    return StepInfo(
        id=id, key=id, operation=operation, label=operation, arms=("colt", "imp"), seed=1, epochs=epochs,
        stored=stored,
    )  # fmt: skip


PLAN = PlanResolved(
    arms=(ArmInfo(id="colt", name="colt", sweep={}, levels=1),),
    contestants=("ticket", "dense"),
    seeds=(1,),
    steps=(
        step("i", "init", stored=True), step("d", "train", 10), step("p", "prune"), step("t", "train", 10),
        step("e", "evaluate"),
    ),
    measurements=(MeasurementInfo(arm="colt", contestant="ticket", level=1, seed=1, step="e"),),
    notes=("the model is small-cnn",),
)  # fmt: skip


def metric(level: int, accuracy: float) -> Metric:
    return Metric(
        arm="colt", contestant="ticket" if level else "dense", level=level, seed=1, step="e",
        accuracy=accuracy, sparsity=0.2 * level, params=272_474,
    )  # fmt: skip


def progress(name: str, epoch: int) -> StepProgress:
    return StepProgress(step=name, epoch=epoch, epochs=10, loss=1 / epoch, accuracy=0.9 + epoch / 200)


def story() -> list[EventRecord]:
    def events() -> Iterable[tuple[float, Event]]:
        yield 0, RUN
        yield 1, PLAN
        yield 1, StepStart(step="d")
        for epoch in range(1, 11):
            yield 1 + 8 * epoch, progress("d", epoch)
        yield 82, StepEnd(step="d", status="done", seconds=81, metrics={"accuracy": 0.951})
        yield 83, metric(0, 0.951)
        yield 83, StepStart(step="p")
        yield 83.5, StepEnd(step="p", status="done", seconds=0.5)
        yield 84, Warn(message="one seed: differences are noise", code="TD505")
        yield 85, StepStart(step="t")
        yield 90, progress("t", 1)
        yield 95, ControlAck(id="1", command="pause", state="paused")
        yield 3695, ControlAck(id="2", command="resume", state="running")
        yield 3700, progress("t", 2)
        yield 3701, Log(message="a line of the log")
        yield 3760, StepEnd(step="t", status="done", seconds=70, metrics={"accuracy": 0.9})
        yield 3761, StepEnd(step="e", status="done", seconds=1)
        yield 3761, metric(1, 0.9402)
        yield 3762, RunEnd(status="ok", seconds=3762, exit=0)

    return [EventRecord(number, t, event) for number, (t, event) in enumerate(events())]


def lines(records: Iterable[EventRecord], **options: object) -> str:
    out = io.StringIO()
    plain = PlainProgress(out, **options)
    for record in records:
        plain.show(record)
    return out.getvalue()


def test_a_measurement_in_doubt_says_so() -> None:
    doubtful = attrs.evolve(metric(0, 0.1), chance=0.1, test_images=100)
    told = lines([*story()[:2], EventRecord(2, 2.0, doubtful)])
    assert told.endswith("accuracy 10.00%, 272 k params, WARNING: the dense network is at chance\n")


LINES = """\
[0:00] run colt-20260102-030405-00ff on cpu, 2 jobs
[0:01] 5 steps (1 already stored), 20 epochs to train
  note: the model is small-cnn
[0:33] 1/5 train, shared by 2 arms, seed 1: epoch 4/10, accuracy 92.0%, loss 0.25, 2:08 left
[1:05] 1/5 train, shared by 2 arms, seed 1: epoch 8/10, accuracy 94.0%, loss 0.125, 1:36 left
[1:22] 2/5 train, shared by 2 arms, seed 1: done in 1:21, accuracy 95.1%, 1:21 left
[1:23] colt, dense, seed 1: accuracy 95.10%, 272 k params
[1:24] warning: one seed: differences are noise [TD505]
[1:35] pause requested: the run is paused
[1:01:35] resume requested: the run is running
[1:01:40] 3/5 train, shared by 2 arms, seed 1: epoch 2/10, accuracy 91.0%, loss 0.5, 1:06 left
[1:01:41] a line of the log
[1:02:40] 4/5 train, shared by 2 arms, seed 1: done in 1:10, accuracy 90.0%, 0:00 left
[1:02:41] colt, round 1, seed 1: accuracy 94.02%, 80.0% of the weights, 272 k params
[1:02:42] finished after 1:02:42, 5/5 steps
"""


def test_a_log_reads_as_designed() -> None:
    assert lines(story()) == LINES


def test_progress_is_told_as_often_as_wished() -> None:
    assert lines(story(), interval=0).count("epoch ") == 12
    assert lines(story(), interval=1e9).count("epoch ") == 0


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (StepEnd(step="d", status="failed", error="out of memory"), "train, shared by 2 arms, seed 1: failed: out of"),
        (StepEnd(step="e", status="failed"), "evaluate, round 1, shared by 2 arms, seed 1: failed: no error message"),
        (
            RunEnd(status="stopped", seconds=9, exit=4),
            "stopped after 0:09, 1/5 steps, 1 failed; run the same command to resume",
        ),
        (
            RunEnd(status="failed", seconds=9, exit=3, message="the disk"),
            "failed after 0:09, 1/5 steps, 1 failed: the disk",
        ),
        (RUN, "resumed run colt"),
    ],
)
def test_what_goes_wrong_is_a_line(event: Event, expected: str) -> None:
    failed = StepEnd(step="p", status="failed", seconds=1.0)
    start = [*story()[:3], EventRecord(8, 8.0, failed)]
    assert expected in lines([*start, EventRecord(9, 9.0, event)]).splitlines()[-1]


def test_a_finished_or_stored_step_is_told_once() -> None:
    stored = [EventRecord(n, float(n), StepEnd(step=s, status="stored")) for n, s in enumerate("idpte")]
    assert lines(stored) == ""


def screen(text: str) -> list[str]:
    """The lines on a terminal after printing `text`."""
    rows, column = [""], 0
    for letter in text:
        if letter == "\n":
            rows.append("")
        if letter in "\r\n":
            column = 0
        else:
            rows[-1] = rows[-1][:column] + letter + rows[-1][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


def test_a_terminal_gets_one_line_in_place_under_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ticks = iter(range(1000))
    options = {"live": True, "clock": lambda: float(next(ticks))}
    middle = screen(lines(story()[:8], **options))
    assert middle == [*LINES.splitlines()[:3], "[0:41] 1/5 train, shared by 2 arms, seed 1, epoch 5/10, 2:00 left"]
    whole = screen(lines(story(), **{**options, "clock": lambda: float(next(ticks))}))
    assert whole == [*(line for line in LINES.splitlines() if ": epoch " not in line), ""]


def test_the_line_in_place_never_wraps_and_is_not_redrawn_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    text = lines(story(), live=True, clock=lambda: 0.0)
    fast = lines(story(), live=True, clock=iter(range(1000)).__next__)
    assert len(text) < len(fast)
    drawn = [part for part in fast.split("\r") if "\n" not in part]
    assert drawn
    assert max(map(len, drawn)) <= 29


class Screen(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False), ("", False)])
def test_only_a_capable_terminal_is_redrawn(monkeypatch: pytest.MonkeyPatch, term: str, can: bool) -> None:
    monkeypatch.setenv("TERM", term)
    assert can_redraw(Screen()) is can
    assert not can_redraw(io.StringIO())


def test_a_stream_of_another_encoding_gets_what_it_can_hold() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    PlainProgress(out).show(EventRecord(0, 0.0, Log(message="naïve")))
    assert raw.getvalue() == b"[0:00] na?ve\n"
