"""The loop learns, and starts, stops and rewinds on the recipe's clock."""

from __future__ import annotations

import torch

from tickdsl.training import data, models
from tickdsl.training.loop import train
from tickdsl.training.recipes import Recipe


def test_small_cnn_learns_digits() -> None:
    digits = data.load("digits")
    model = models.create("small-cnn", classes=10, shape=digits.shape, seed=0)
    history = train(model, digits, Recipe(length="6ep", lr=0.1, batch=64, schedule="cosine"), seed=0)
    assert history.last is not None
    assert history.last.test_accuracy > 0.95
    assert all(torch.isfinite(p).all() for p in model.parameters())
