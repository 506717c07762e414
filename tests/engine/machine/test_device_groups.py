"""`--gpus-per-training N`: which devices train one network together, and what is said where they cannot."""

from __future__ import annotations

import re

import pytest
import torch

from tickdsl.engine.machine.device_groups import device_groups, notes_on_groups, require_large_batches
from tickdsl.engine.workers.ray_options import RayOptions, ray_options
from tickdsl.errors import TickdslError
from tickdsl.metrics.energy_counters import SummedCounter
from tickdsl.plan.steps import Step
from tickdsl.training.device_choice import names_of_devices

CPU = (torch.device("cpu"),)


def gpus(count: int) -> tuple[torch.device, ...]:
    return tuple(torch.device("cuda", index) for index in range(count))


@pytest.mark.parametrize(
    ("devices", "size", "groups"),
    [
        (gpus(4), 2, [("cuda:0", "cuda:1"), ("cuda:2", "cuda:3")]),
        (gpus(3), 2, [("cuda:0", "cuda:1")]),
        (gpus(2), 1, [("cuda:0",), ("cuda:1",)]),
        (CPU, 3, [("cpu", "cpu", "cpu")]),
        (CPU, 1, [("cpu",)]),
    ],
)
def test_devices_in_groups(devices: tuple[torch.device, ...], size: int, groups: list[tuple[str, ...]]) -> None:
    assert device_groups(devices, size) == groups


@pytest.mark.parametrize(
    ("devices", "size", "there", "message", "hint"),
    [
        (gpus(2), 4, 2, "--gpus-per-training 4: this run has 2 GPUs, cuda:0,1", "use at most 2, or more GPUs"),
        ((torch.device("cuda"),), 2, 1, "this run has 1 GPU, cuda", "use --gpus-per-training 1"),
        ((torch.device("cuda"),), 2, 4, "this run has 1 GPU, cuda", "--device cuda:0,1, or use --device auto"),
    ],
)
def test_missing_gpus_are_named(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[torch.device, ...], size: int, there: int, message: str, hint: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(TickdslError, match=re.escape(message)) as raised:
        device_groups(devices, size)
    assert raised.value.hint is not None and hint in raised.value.hint


def test_a_batch_needs_an_image_for_each() -> None:
    steps = [Step("train", {"recipe": {"length": "1ep", "lr": 0.1, "batch": batch}}, {}, 0) for batch in (8, 3)]
    require_large_batches([*steps, Step("init", {}, {}, 0)], 3)
    with pytest.raises(TickdslError, match="a training has `batch=3`, 3 images for 4 to share"):
        require_large_batches(steps, 4)


def test_what_is_not_used_is_said() -> None:
    assert notes_on_groups(gpus(4), device_groups(gpus(4), 2), None) == []
    idle, stack = notes_on_groups(gpus(5), device_groups(gpus(5), 2), 4)
    assert "cuda:4 is not used, since 5 GPUs are not a multiple of 2" in idle
    assert "--stack 4 has no effect" in stack


def test_a_step_of_ray_has_one_gpu() -> None:
    with pytest.raises(TickdslError, match="--gpus-per-training cannot be combined with --workers ray"):
        ray_options(RayOptions(), None, None, 2)
    assert ray_options(None, None, None, 2) is None


def test_groups_have_names() -> None:
    assert names_of_devices(["cuda:0", "cuda:2"]) == "cuda:0,2"
    assert names_of_devices(["cpu", "cpu"]) == "cpu x 2" and names_of_devices(["cpu"]) == "cpu"


class Counter:
    source = "nvml"

    def __init__(self, readings: list[float | None]) -> None:
        self._readings = iter(readings)

    def read(self) -> float | None:
        return next(self._readings)


def test_energy_is_that_of_all_devices() -> None:
    summed = SummedCounter([Counter([1.0, 2.0]), Counter([10.0, None])])
    assert summed.source == "nvml" and summed.read() == 11.0 and summed.read() is None
