"""Small data sets of tokens, and small transformers for them."""

from __future__ import annotations

import functools

from torch import nn

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset

#: Options of a network that takes a step in milliseconds.
TINY = {"layers": 1, "heads": 2, "dim": 16}


@functools.cache
def corpus() -> Dataset:
    """100 + 30 sequences of 12 bytes."""
    return datasets.load("corpus", options={"train": 100, "test": 30, "length": 12})


@functools.cache
def sentences() -> Dataset:
    """100 + 40 labelled sentences."""
    return datasets.load("sentences", options={"train": 100, "test": 40})


def network_for(data: Dataset, seed: int = 0, **options: object) -> nn.Module:
    """A tiny GPT, or a tiny BERT for data with labels."""
    name = "gpt" if data.task.name == "language" else "bert"
    return models.create(name, classes=data.classes, shape=data.shape, seed=seed, options={**TINY, **options})
