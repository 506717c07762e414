"""The catalogue's declarations of tasks, which `check` reads without torch, say what the tasks themselves do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tickdsl.engine.task_fit import task_info
from tickdsl.errors import TickdslError
from tickdsl.training.catalogue import tasks as declared
from tickdsl.training.tasks import TASKS, Task


def smooths_labels(task: Task) -> bool:
    try:
        task.bind(label_smoothing=0.1)
    except TickdslError:
        return False
    return True


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_declared_as_it_is(name: str) -> None:
    task, info = TASKS[name], declared.TASK_INFOS[name]
    assert info == declared.TaskInfo(
        name,
        task.metrics,
        task.has_classes,
        label_smoothing=smooths_labels(task),
        temperature=type(task).soften is not Task.soften,
        parts_in_turn=bool(task.phases),
        alike=(name,),
        probabilities=task.takes_probabilities,
        averages=type(task).average is not Task.average,
    )
    assert task_info(name) is info


def test_every_declared_metric_has_a_meaning_and_bounds_that_hold_it() -> None:
    assert set(declared.TASK_METRICS) <= set(declared.METRIC_SUMMARIES)
    for name, metric in declared.TASK_METRICS.items():
        least, most = declared.bounds(name)
        assert least < most and (least, most) == (0, 1) if metric.unit == "share" else least < most
        assert declared.is_share(name) is (metric.unit == "share")


def test_metrics_of_equal_names_have_one_unit_to_write() -> None:
    """A condition is read before its task is known."""
    for info in declared.TASK_INFOS.values():
        for metric in info.metrics:
            assert (metric.unit == "share") is declared.is_share(metric.name)


def test_the_declarations_load_no_torch() -> None:
    code = "import sys, tickdsl.training.catalogue.tasks, tickdsl.lang.vocabulary; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
