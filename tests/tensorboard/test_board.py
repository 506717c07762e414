"""TensorBoard files of events in any order, and of resumed runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs
from event_files import steps_by_tag
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.records import EventRecord
from tickdsl.records import events as e
from tickdsl.tensorboard import TensorBoardWriter
from tickdsl.tensorboard.event_file import folder_name
from tickdsl.tensorboard.reorder_buffer import ReorderBuffer
from tickdsl.tensorboard.tag_layout import TagLayout


def plan(*arms: str, levels: int = 3, epochs: float = 4.0) -> e.PlanResolved:
    """A plan with one seed; the training `ARM-LEVEL` is measured at that level."""
    trainings = [(arm, level) for arm in arms for level in range(levels + 1)]
    return e.PlanResolved(
        arms=tuple(e.ArmInfo(id=arm, name=arm, sweep={}, levels=levels) for arm in arms),
        contestants=("ticket", "dense"),
        seeds=(1,),
        steps=tuple(
            e.StepInfo(id=f"{a}-{n}", key="0" * 64, operation="train", label="t", arms=(a,), seed=1, epochs=epochs)
            for a, n in trainings
        ),
        measurements=tuple(
            e.MeasurementInfo(arm=a, contestant="ticket" if n else "dense", level=n, seed=1, step=f"{a}-{n}")
            for a, n in trainings
        ),
    )


def write(folder: Path, *events: e.Event) -> dict[str, dict[str, list[int]]]:
    """Write these events; returns folder -> tag -> steps."""
    start = e.RunStart(run="r", plan="p", path="p.plan", argv=(), pid=1, host="h", boot="b", versions={}, jobs=1,
                       device="cpu", store=str(folder / "store"))  # fmt: skip
    board = TensorBoardWriter(folder / "tb")
    for number, event in enumerate((start, *events)):
        board.submit(EventRecord(number, 1e9 + number, event))
    board.close()
    assert board.error is None
    return steps_by_tag(folder / "tb")


def progress(step: str, epochs: Iterable[int], of: int = 4) -> list[e.Event]:
    return [e.StepProgress(step=step, epoch=n, epochs=of, loss=1.0, accuracy=0.5, lr=0.1) for n in epochs]


def measured(arm: str, level: int) -> e.Metric:
    contestant = "ticket" if level else "dense"
    return e.Metric(arm=arm, contestant=contestant, level=level, seed=1, step=f"{arm}-{level}", accuracy=0.5)


def test_a_step_that_is_tried_again_repeats_nothing(tmp_path: Path) -> None:
    steps_by_tag = write(tmp_path, plan("a"), *progress("a-1", (1, 2, 3)), *progress("a-1", (2, 3, 4)))
    assert steps_by_tag["a/seed-1"]["accuracy/round-01"] == [1, 2, 3, 4]


def test_a_training_resumed_from_a_checkpoint_waits_for_its_first_epochs(tmp_path: Path) -> None:
    assert write(tmp_path, plan("a"), *progress("a-1", (3, 4))) == {}


def test_a_rewound_training_begins_later(tmp_path: Path) -> None:
    steps_by_tag = write(tmp_path, plan("a", epochs=3.0), *progress("a-1", (2, 3, 4)))
    assert steps_by_tag["a/seed-1"]["accuracy/round-01"] == [2, 3, 4]


def test_a_resumed_run_rewrites_everything(tmp_path: Path) -> None:
    write(tmp_path, plan("a"), *progress("a-1", (1, 2)))
    again = write(tmp_path, plan("a"), *progress("a-1", (1, 2, 3)))
    assert again["a/seed-1"]["accuracy/round-01"] == [1, 2, 3]


def test_rounds_come_in_order(tmp_path: Path) -> None:
    end = e.RunEnd(status="ok", seconds=1.0, exit=0)
    steps_by_tag = write(tmp_path, plan("a"), *(measured("a", level) for level in (2, 0, 3, 1)), end)
    assert steps_by_tag["a/seed-1"]["accuracy/by-round"] == [0, 1, 2, 3]


def test_rounds_that_are_missing_hold_up_the_others_until_the_end(tmp_path: Path) -> None:
    end = e.RunEnd(status="stopped", seconds=1.0, exit=4)
    steps_by_tag = write(tmp_path, plan("a"), measured("a", 3), measured("a", 0), measured("a", 2), end)
    assert steps_by_tag["a/seed-1"]["accuracy/by-round"] == [0, 2, 3]


def test_arms_whose_names_become_equal_have_folders_of_their_own(tmp_path: Path) -> None:
    steps_by_tag = write(tmp_path, plan("a[x=1/2]", "a[x=1:2]"), measured("a[x=1/2]", 0), measured("a[x=1:2]", 0))
    assert len(steps_by_tag) == 2
    assert all(tags["accuracy/by-round"] == [0] for tags in steps_by_tag.values())


def test_twins_have_tags_of_their_own() -> None:
    """Trainings that only prepare others, of one arm, round and label, e.g. of the two ends of a barrier."""
    resolved = plan("a")
    twins = tuple(
        e.StepInfo(id=f"twin{n}", key=f"k{n}", operation="train", label="twin", arms=("a",), seed=1, epochs=4.0)
        for n in range(3)
    )
    layout = TagLayout(attrs.evolve(resolved, steps=(*resolved.steps, *twins)))
    tags = [(curve.series, curve.tag("accuracy")) for curves in layout.training_curves.values() for curve in curves]
    assert len(set(tags)) == len(tags)
    assert {tag.partition("/")[0] for _, tag in tags} > {"twin", "twin-2", "twin-3"}


@given(st.permutations(range(6)), st.sets(st.integers(0, 5)))
def test_in_any_order_nothing_is_lost_or_out_of_order(arriving: list[int], missing: set[int]) -> None:
    buffer = ReorderBuffer[str](range(6))
    yielded = [n for number in arriving if number not in missing for n, _ in buffer.put(number, str(number))]
    assert yielded == sorted(yielded)
    assert [*yielded, *(n for n, _ in buffer.remaining())] == sorted(set(range(6)) - missing)


@given(st.text(min_size=1))
def test_folder_names_are_plain(text: str) -> None:
    name = folder_name(text)
    assert name and "/" not in name and name not in (".", "..") and not set(name) & set('<>:"|?*\\\0\n')


def test_another_task_has_tags_of_its_own_metrics(tmp_path: Path) -> None:
    rmse = e.MetricInfo(name="rmse", higher_is_better=False)
    task = e.TaskInfo(name="regress", metrics=(rmse, e.MetricInfo(name="r2", higher_is_better=True)))
    resolved = attrs.evolve(plan("a", levels=2), tasks={"a": task})
    measured = [
        e.Metric(
            arm="a", contestant="ticket" if level else "dense", level=level, seed=1, step=f"a-{level}", accuracy=None,
            loss=0.2, score=score, metric="rmse", figures={"rmse": score, "r2": 1 - score},
        )
        for level, score in enumerate((0.5, 0.25, 0.75))
    ]  # fmt: skip
    progress = e.StepProgress(step="a-0", epoch=1, epochs=4, loss=0.5, score=0.9, metric="rmse")
    written = write(tmp_path, resolved, progress, *measured, e.RunEnd(status="ok", seconds=1, exit=0))
    tags = written["a/seed-1"]
    assert tags["rmse/by-round"] == tags["round/r2"] == tags["round/loss"] == [0, 1, 2]
    assert tags["rmse/round-00"] == [1] and {"final/rmse", "best/rmse"} <= tags.keys()
    assert not [tag for tag in tags if "accuracy" in tag]
