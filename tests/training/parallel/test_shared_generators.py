"""Networks that draw random numbers, trained by several processes: with equal numbers, they end where one ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import torch
from rank_processes import run_on_ranks
from shared_trainings import RECIPE, assert_alike, job, outcome
from torch import Tensor, nn

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.job import TrainingJob
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.tasks import TASKS
from tickdsl.training.tasks.generate import Generate

pytestmark = pytest.mark.slow

NETWORKS = {"generate": ("dcgan", {"width": 0.25, "latent": 4}), "vae": ("conv-vae", {"width": 0.25, "latent": 4})}
#: Every process has as many rows of each batch as any other, and a test has other numbers of rows.
TRAINED, TESTED, BATCH = 32, 15, 12
TASKS_BY_NAME: Mapping[str, Any] = {**TASKS, "generate": Generate(lambda images: images.flatten(1)[:, ::97].double())}


def training(name: str) -> TrainingJob:
    data = datasets.load("digits", options={"samples": TRAINED})
    data = data.for_task(TASKS_BY_NAME[name])
    data = attrs.evolve(data, test_inputs=data.test_inputs[:TESTED], test_targets=data.test_targets[:TESTED])
    assert len(data.train_targets) == TRAINED and len(data.test_targets) == TESTED
    network, options = NETWORKS[name]
    model = models.create(network, classes=data.classes, shape=data.shape, seed=0, options=options).double()
    for module in (model, *model.children()):
        module.register_forward_pre_hook(_as_float64)
    return job(attrs.evolve(RECIPE, batch=BATCH, lr=0.02), data, model)


def _as_float64(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(each.double() for each in inputs)


@contextmanager
def same_numbers(ranks: Ranks | None) -> Iterator[None]:
    """Within it, the rows of a batch draw what they draw in a single process, without a random generator."""
    original, like = torch.randn, torch.randn_like
    rank, size = (0, 1) if ranks is None else (ranks.rank, ranks.size)

    def rows(count: int, shape: tuple[int, ...], dtype: Any) -> Tensor:
        whole = torch.arange(count * size, dtype=dtype).mul(0.7).sin()[rank * count : (rank + 1) * count]
        columns = torch.arange(torch.Size(shape).numel(), dtype=dtype).mul(1.3).cos()
        return (whole[:, None] + columns).view(count, *shape)

    def drawn(count: int, latent: int, *, dtype: Any, device: Any) -> Tensor:
        if count == TESTED:
            return original(count, latent, dtype=dtype, device=device)
        return rows(count, (latent,), dtype)

    def drawn_like(tensor: Tensor) -> Tensor:
        return like(tensor) if len(tensor) == TESTED else rows(len(tensor), tensor.shape[1:], tensor.dtype)

    torch.randn, torch.randn_like = drawn, drawn_like  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.randn, torch.randn_like = original, like


def trained(ranks: Ranks | None) -> dict[str, Any]:
    with same_numbers(ranks):
        return {name: outcome(training(name), ranks) for name in NETWORKS}


@pytest.mark.parametrize("size", [2, 4])
def test_generators_end_where_one_process_ends(size: int) -> None:
    expected = trained(None)
    first, *others = run_on_ranks(size, trained)
    for other in others:
        assert_alike(other, first, 0.0)
    for name in NETWORKS:
        assert expected[name]["figures"]
        assert_alike(first[name], expected[name], 1e-6)  # the losses are computed in float32
