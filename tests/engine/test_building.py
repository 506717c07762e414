"""Networks are traced without being allocated, and what is too large to train is found before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tickdsl.engine.building import trace_model
from tickdsl.errors import NetworkTooLargeError
from tickdsl.graph.tracing.trace import trace
from tickdsl.training.catalogue import DATASETS, MODELS
from tickdsl.training.models import create, create_on_meta

NETWORKS = [("conv3", (1, 16, 16)), ("resnet20", (3, 8, 8)), ("torchvision.squeezenet1_1", (3, 32, 32))]
SLOW = [
    ("torchvision.regnet_x_400mf", (3, 32, 32)),  # its constructor computes widths with tensors
    ("torchvision.vit_b_32", (3, 64, 64)),
    ("torchvision.swin_v2_t", (3, 64, 64)),
    ("torchvision.inception_v3", (3, 96, 96)),
    ("torchvision.convnext_tiny", (3, 32, 32)),
]


@pytest.mark.parametrize(("name", "shape"), [*NETWORKS, *(pytest.param(*row, marks=pytest.mark.slow) for row in SLOW)])
def test_the_graph_without_memory_is_that_of_the_network(name: str, shape: tuple[int, int, int]) -> None:
    model = create_on_meta(name, classes=7, shape=shape)
    assert model is not None and all(parameter.is_meta for parameter in model.parameters())
    built = create(name, classes=7, shape=shape, seed=1)
    images = torch.zeros(2, *shape)
    assert trace(model, (images,)).to_json() == trace(built, (images,)).to_json()


def test_tracing_a_wide_network_allocates_nothing_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    allocated: list[int] = []
    empty = torch.empty

    def recorded(*size: Any, **options: Any) -> Tensor:
        tensor: Tensor = empty(*size, **options)
        allocated.append(0 if tensor.is_meta else tensor.numel())
        return tensor

    monkeypatch.setattr(torch, "empty", recorded)
    trace_model("vgg11", b'{"width": 4.0}', 10, (3, 32, 32))
    assert sum(allocated) < 1_000_000 < 100_000_000


def test_more_parameters_than_anybody_trains_are_not_traced() -> None:
    with pytest.raises(NetworkTooLargeError, match="10,0"):
        trace_model("lenet-300-100", b'{"width": 32.0}', 10, (1, 1024, 1024))


@pytest.mark.parametrize("name", [*MODELS.builtin, *DATASETS.builtin])
def test_every_number_of_the_catalogue_is_bounded(name: str) -> None:
    options = (MODELS[name] if name in MODELS else DATASETS[name]).options
    for key, option in options.items():
        bounded = option.among or option.is_share or None not in (option.least, option.most)
        is_number = option.type not in (str, list)
        # A choice of images cannot be larger than the data.
        assert bounded or not is_number or key == "samples", key
        unbounded = not is_number or option.is_share
        assert unbounded or option.requirement_missed_by(float("nan")) is not None


@pytest.mark.parametrize(
    ("option", "value", "requirement"),
    [("channels", 2, "1 or 3"), ("size", 0, "at least 1"), ("size", 10**6, "at most 1,024"), ("size", 64, None)],
)
def test_a_value_that_is_not_allowed_is_told_what_is(option: str, value: int, requirement: str | None) -> None:
    assert DATASETS["mnist"].options[option].requirement_missed_by(value) == requirement
