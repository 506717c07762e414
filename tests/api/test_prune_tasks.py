"""`tickdsl.prune` of networks with tokens, dense outputs and several outputs, by the loss of a task or one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from task_plugins import Reader
from torch import Tensor, nn
from torch.nn import functional as F

import tickdsl
from tickdsl.errors import TickdslError
from tickdsl.extending import Regress
from tickdsl.training.tasks import TASKS

WITH_GRADIENTS = ("snip", "taylor", "grasp")


class Pixels(nn.Module):
    """Logits of 3 classes for every pixel: [B, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.act(self.first(images)))
        return logits


class TwoHeads(nn.Module):
    """A dictionary of two outputs: `image` [B, 64] and `code` [B, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.act = nn.Linear(64, 24), nn.ReLU()
        self.code, self.decode = nn.Linear(24, 6), nn.Linear(6, 64)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        code = self.code(self.act(self.hidden(images.flatten(1))))
        return {"image": self.decode(code), "code": code}


def seeded(factory: Any, *args: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = factory(*args)
        return network


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def tokens(*shape: int) -> Tensor:
    return torch.randint(12, shape, generator=torch.Generator().manual_seed(0))


IMAGES, PIXELS = drawn(16, 1, 8, 8), torch.arange(16 * 64).view(16, 8, 8) % 3
CASES: dict[str, tuple[Any, Any, list[Any], dict[str, Any], str]] = {
    "tokens": (lambda: Reader(2, 6, 12, 24), tokens(2, 6), [(tokens(40, 6), tokens(40, 1)[:, 0] % 2)], {}, "neurons"),
    "dense outputs": (Pixels, IMAGES[:2], [(IMAGES, PIXELS)], {"loss": F.cross_entropy}, "filters"),
    "several outputs": (
        TwoHeads,
        IMAGES[:2],
        [(IMAGES, IMAGES.flatten(1))],
        {"loss": lambda outputs, targets: F.mse_loss(outputs["image"], targets) + outputs["code"].square().mean()},
        "neurons",
    ),
    "numbers": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 2)),
        IMAGES[:2],
        [(IMAGES, drawn(16, 2))],
        {"task": "regress"},
        "neurons",
    ),
}


@pytest.mark.parametrize("by", [*WITH_GRADIENTS, "l2", "hrank", "expected-abs"])
@pytest.mark.parametrize("case", CASES)
def test_networks_of_any_task_are_pruned(case: str, by: str) -> None:
    factory, example, data, options, unit = CASES[case]
    if by == "hrank" and unit != "filters":
        unit, by = unit, "expected-abs"
    network = seeded(factory)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    small = tickdsl.prune(network, example, "30%", unit=unit, by=by, data=data, **options)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    shapes = [tensor.shape for outputs in (network(example), small(example)) for tensor in values(outputs)]
    assert shapes[: len(shapes) // 2] == shapes[len(shapes) // 2 :]
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())


def values(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs.values())


def test_the_loss_of_a_task_is_that_loss() -> None:
    factory, example, data, _, unit = CASES["numbers"]
    network = seeded(factory)

    def structure(**options: Any) -> Any:
        return tickdsl.structure_of(
            tickdsl.prune(network, example, "30%", unit=unit, by="taylor", data=data, **options)
        )

    assert structure(task="regress") == structure(loss=F.mse_loss) == structure(task=Regress())
    assert structure(task="regress") != structure(loss=lambda outputs, targets: outputs[:, 0].square().mean())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"task": "regres"}, "there is no task `regres`"),
        ({"task": 3}, "`task` cannot be of type int"),
        ({"loss": 3}, "`loss` cannot be of type int"),
        ({"loss": F.mse_loss, "task": "regress"}, "`loss` and `task` are both given"),
        ({"loss": lambda outputs, targets: outputs}, r"the loss is float32 \[16, 2\], not a single number"),
        ({"loss": lambda outputs, targets: outputs.sum() * float("nan")}, "the loss is nan"),
        ({"loss": lambda outputs, targets: outputs["image"].sum()}, r"the loss fails for outputs float32 \[16, 2\]"),
        ({}, r"the loss fails for outputs float32 \[16, 2\] and targets float32 \[16, 3\]"),
    ],
)
def test_a_loss_that_does_not_work_is_one_message(options: dict[str, Any], problem: str) -> None:
    factory, example, _, _, unit = CASES["numbers"]
    data = [(IMAGES, drawn(16, 3))]
    with pytest.raises(TickdslError, match=problem) as raised:
        tickdsl.prune(seeded(factory), example, "30%", unit=unit, by="taylor", data=data, **options)
    assert raised.value.hint
    assert all(name in raised.value.hint for name in (TASKS if "no task" in problem else ()))
