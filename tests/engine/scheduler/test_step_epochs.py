"""The number of epochs of a training, as plans and events give it."""

from __future__ import annotations

from typing import Any

import pytest

from tickdsl.engine.scheduler.forecast import epochs
from tickdsl.plan.steps import Step


def _training(data: str, recipe: dict[str, Any], **more: Any) -> Step:
    part = more.pop("part", None)
    data_args: dict[str, Any] = {"name": data, "options": more.pop("options", {})}
    if part:
        data_args["part"] = part
    return Step("train", {"model": {"name": "m", "options": {}}, "data": data_args, "recipe": recipe, **more}, {}, 1)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (_training("mnist", {"length": "50000it", "batch": 60}), 50),
        (_training("mnist", {"length": "50000it", "batch": 60}, start="5000it"), 45),
        (_training("mnist", {"length": "50000it", "batch": 60}, stop="1ep"), 1),
        (_training("mnist", {"length": "40ep"}, start="469it"), 39),
        (_training("cifar10", {"length": "30000it"}), 30000 / 391),
        (_training("synthetic", {"length": "100it", "batch": 10}, options={"train": 100}), 10),
        (_training("mnist", {"length": "3000it", "batch": 60}, part={"by": "samples", "parts": 2, "index": 0}), 6),
        (_training("folder", {"length": "160ep"}), 160),
        (_training("folder", {"length": "100it"}), None),
        (_training("mnist", {"length": "40ep"}, budget="flops"), 40),  # or more
        (Step("evaluate", {}, {}), None),
    ],
)
def test_steps_are_converted_where_the_size_of_the_data_is_known(step: Step, expected: float | None) -> None:
    assert epochs(step) == (None if expected is None else pytest.approx(expected))
