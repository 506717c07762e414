"""The steps that several processes share, on the fake second device: what they exchange stays there, and none waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import fake_device
import pytest
from second_device_cases import PER_EPOCH, RECIPE, make_distillation, make_job, train
from torch import Tensor

from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.parallel.ranks import Ranks

CASES: dict[str, dict[str, Any]] = {
    "masks and batch norm": {},
    "in micro-batches, clipped, averaged": {"accumulate": 2, "clip": 0.5, "ema": 0.9},
    "weighted classes": {"class_weights": "balanced", "accumulate": 2},
}


@pytest.fixture(autouse=True)
def second() -> Iterator[None]:
    with fake_device.fake_device():
        yield


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


class OnlyProcess(Ranks):
    """The only process of a training, which notes on which devices it exchanges what in an optimiser step."""

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.devices: list[str] = []

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        self.devices += [tensor.device.type for tensor in tensors]

    def gather(self, tensor: Tensor) -> Tensor:
        self.devices.append(tensor.device.type)
        return tensor.unsqueeze(0)

    def gather_objects(self, value: Any) -> list[Any]:
        return [value]

    def of_first(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("options", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("distilled", [False, True])
def test_a_shared_training_waits_only_between_epochs(tiny: Dataset, options: dict[str, Any], distilled: bool) -> None:
    recipe = attrs.evolve(RECIPE, **options)
    more = [{"distillation": make_distillation()} if distilled else {} for _ in range(2)]
    on_cpu, on_fake = (make_job(tiny, recipe, ranks=OnlyProcess(), **each) for each in more)
    expected = train(on_cpu, "cpu")
    ranks = OnlyProcess()
    on_fake = attrs.evolve(on_fake, ranks=ranks)
    waits: list[int] = []
    fake_device.SYNC_COUNTS.clear()
    found = train(on_fake, before_step=lambda: waits.append(fake_device.SYNC_COUNTS.total()))
    for one, other in zip(found.epochs, expected.epochs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
    first, per_epoch = waits[0], waits[PER_EPOCH] - waits[0]
    assert waits == [first + per_epoch * (step // PER_EPOCH) for step in range(3 * PER_EPOCH)]
    assert set(ranks.devices) == {fake_device.NAME}
