"""Small data and networks for tests of networks that reconstruct and generate images."""

from __future__ import annotations

import functools
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.tasks import Generate, find_task

SHAPE = (1, 8, 8)
NAMES = ("autoencoder", "conv-autoencoder", "vae", "conv-vae", "dcgan")


@functools.cache
def digits(task: str = "generate", samples: int = 60) -> Dataset:
    """Digits as a task has them; images are judged by the mean and the deviation of each of their columns."""
    data = datasets.load("digits", options={"samples": samples})
    data = attrs.evolve(data, test_inputs=data.test_inputs[:40], test_targets=data.test_targets[:40])
    data = data.for_task(find_task(task))
    return attrs.evolve(data, task=Generate(column_features)) if task == "generate" else data


def column_features(images: Tensor) -> Tensor:
    """The mean and the deviation of each column of images uint8 [N, C, H, W], [N, 2 W]."""
    pixels = images.float()[:, 0] / 255
    return torch.cat([pixels.mean(1), pixels.std(1)], 1)


def network(name: str = "dcgan", seed: int = 0, **options: Any) -> nn.Module:
    return models.create(name, classes=10, shape=SHAPE, seed=seed, options={"width": 0.25, "latent": 6, **options})
