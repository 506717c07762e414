"""Tickets to export: networks of the catalogue and own ones, thinned at random, with batch statistics that differ."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph import Structure, compact, trace
from tickdsl.pruning.random_structure import random_structure
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.catalogue import MODELS
from tickdsl.training.models import create
from tickdsl.training.rng import generator

CLASSES = 10
Shape = tuple[int, int, int]


def thinned_ticket(name: str, module: nn.Module, shape: Shape, *, masks: bool = False) -> tuple[Ticket, nn.Module]:
    """A ticket of a dense network whose structure is drawn at random, and its compact network.

    masks: mask half of the entries of every weight, too.
    """
    module = module.eval()
    graph = trace(module, (torch.empty(2, *shape, device="meta"),))
    counts = Structure.dense(graph)
    for group in graph.channels:
        if group.reason is None:
            counts = counts.remove(group.name, np.arange(group.size // 3))
    structure = random_structure(graph, counts, generator(zlib.crc32(name.encode()), "ticket"))
    if masks:
        rng = np.random.default_rng(0)
        sizes = {key: size for key, size in graph.parameters.items() if len(size) > 1}
        structure = structure.with_masks({key: rng.random(size) < 0.5 for key, size in sizes.items()})
    network = compact(module, graph, structure).eval()
    ticket = Ticket(
        source=NetworkSource(name, {}, CLASSES, shape),
        structure=structure,
        weights=network.state_dict(),
        preprocessing=preprocessing(shape),
        classes=tuple(f"class {index}" for index in range(CLASSES)),
        metrics={"accuracy": 0.5, "params": sum(parameter.numel() for parameter in network.parameters())},
        plan=f"model {name}\n# ☃",
    )
    return ticket, network


def catalogue_ticket(name: str) -> tuple[Ticket, nn.Module]:
    """A ticket of a network of the catalogue, for the smallest images that it takes, or a little larger ones."""
    module = distinct(create(name, classes=CLASSES, shape=image_shape(name), seed=0))
    return thinned_ticket(name, module, image_shape(name))


def distinct(module: nn.Module) -> nn.Module:
    """The network with batch statistics, biases and scales that all differ, and outputs that do not overflow."""
    with torch.no_grad():
        for index, layer in enumerate(module.modules()):
            if isinstance(layer, nn.BatchNorm2d):
                stream = generator(index, "statistics")
                layer.running_mean.uniform_(-0.1, 0.1, generator=stream)
                layer.running_var.uniform_(0.8, 1.2, generator=stream)
    return module


def image_shape(name: str) -> Shape:
    """The shape of images that a network of the catalogue takes."""
    info = MODELS[name]
    side = max((info.size or (1, 1))[0], 32 if info.is_builtin else 64)
    if info.exact_size:
        side = (info.size or (side, side))[0]
    side = -(-side // info.multiple) * info.multiple
    return info.channels or 1, side, side


def preprocessing(shape: Shape) -> Preprocessing:
    channels = shape[0]
    return Preprocessing(*shape, (0.4912, 0.31, 0.2)[:channels], (0.2470, 0.3081, 0.19)[:channels])


def test_images(shape: Shape, count: int = 12) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=generator(1, "images"), dtype=torch.uint8)


class Sliced(nn.Module):
    """Hard-codes its sizes, so that its `forward` is rewritten when channels are removed."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        left, right = x[:, :6], x[:, 6:12]
        x = F.max_pool2d(F.relu(self.second(torch.cat([left, right], 1))), 2)
        logits: Tensor = self.fc(x.view(-1, 16 * 16))
        return logits


class Residual(nn.Module):
    """A residual network that is written out, without blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1)
        self.a = nn.Conv2d(12, 12, 3, padding=1)
        self.b = nn.Conv2d(12, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + F.relu(self.norm(self.a(x)))
        x = x + F.relu(self.b(x))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class Plain(nn.Sequential):
    """A small convolutional network, to be masked."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 16, CLASSES),
        )  # fmt: skip


OWN = {"rewritten": Sliced, "residual": Residual, "masked": Plain}
OWN_SHAPE: Shape = (1, 8, 8)


def own_ticket(kind: str) -> tuple[Ticket, nn.Module]:
    """A ticket of one of the networks in OWN."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = distinct(OWN[kind]())
    return thinned_ticket(kind, module, OWN_SHAPE, masks=kind == "masked")
