"""What a resolved plan tells the readers of a run."""

from pathlib import Path

import attrs
import pytest
from step_runner import step_runner

from tickdsl.engine.scheduler.event_builders import plan_resolved_event, task_info
from tickdsl.records.events import CLASSIFY
from tickdsl.training.tasks import TASKS, Task


@pytest.mark.parametrize(
    ("text", "stops"),
    [
        ("prune weights 20% x 3; rewind lr", ()),
        ("prune weights 20% x 3; rewind lr\nstop when sparsity >= 40%", ()),
        (
            "prune weights 20% x 3; rewind lr\nstop when accuracy < 90%\nstop when loss > 2",
            ("accuracy < 90%", "loss > 2"),
        ),
        ("prune weights 20% x 3 until accuracy < 85%; rewind lr", ("accuracy < 85%",)),
    ],
)
def test_conditions_on_test_results_are_told(tmp_path: Path, text: str, stops: tuple[str, ...]) -> None:
    """Readers give rounds that such a condition kept a seed from no verdict, and count them."""
    event = plan_resolved_event(step_runner(tmp_path, text).study, lambda key: False)
    assert event.stops == stops


def test_arms_tell_their_task_and_its_metrics(tmp_path: Path) -> None:
    """Readers know no tasks: an arm's metrics, their direction and what one sample changes come with the plan."""
    event = plan_resolved_event(step_runner(tmp_path, "prune weights 20%; rewind lr").study, lambda key: False)
    assert set(event.tasks) == {arm.id for arm in event.arms}
    assert set(event.tasks.values()) == {CLASSIFY}


@pytest.mark.parametrize("task", TASKS.values())
def test_what_is_told_of_a_task_is_what_it_says_of_itself(task: Task) -> None:
    told = task_info(task)
    assert told.name == task.name
    assert [attrs.asdict(metric) for metric in told.metrics] == [attrs.asdict(metric) for metric in task.metrics]
    assert [metric.is_share for metric in told.metrics] == [metric.unit == "share" for metric in task.metrics]


@pytest.mark.parametrize(("data", "noun"), [("digits", "image"), ("sentences", "sample")])
def test_arms_tell_what_their_inputs_are_called(tmp_path: Path, data: str, noun: str) -> None:
    model = {"digits": "small-cnn", "sentences": "bert"}[data]
    head = f"model {model} on {data}\ntrain 2ep\n"
    study = step_runner(tmp_path, "prune weights 20%; rewind lr", head=head).study
    event = plan_resolved_event(study, lambda key: False)
    assert {task.sample for task in event.tasks.values()} == {noun}
