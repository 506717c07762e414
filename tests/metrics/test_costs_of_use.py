"""Memory and latency: memory matches a calculation, and latency grows with the work."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tickdsl.metrics import latency as timing
from tickdsl.metrics import memory
from tickdsl.metrics.latency import measure_latency
from tickdsl.metrics.memory import measure_memory
from tickdsl.training.recipes.recipe import Recipe

CPU = torch.device("cpu")
FLOAT = 4
FEATURES = 20_000


def recipe(**fields: Any) -> Recipe:
    return Recipe.from_dict({"length": "1ep", "lr": 0.1, "batch": 8, **fields})


def chain(channels: int, depth: int = 5) -> nn.Module:
    convolutions = [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth)]
    return nn.Sequential(*convolutions, nn.Flatten())


# -- memory


@pytest.mark.parametrize("channels", [4, 8])
def test_inference_memory_holds_two_outputs_and_the_images(channels: int) -> None:
    result = measure_memory(chain(channels), torch.zeros(4, channels, 16, 16), recipe(), device=CPU)
    assert result["memory.parameters"] == 5 * channels**2 * 9 * FLOAT
    assert result["memory.activations"] == 3 * 4 * channels * 16 * 16 * FLOAT
    assert result["memory"] == result["memory.parameters"] + result["memory.activations"]


def test_training_memory_holds_all_outputs() -> None:
    shallow, deep = (measure_memory(chain(8, n), torch.zeros(4, 8, 16, 16), recipe(), device=CPU) for n in (5, 10))
    maps = 8 * 8 * 16 * 16 * FLOAT
    assert deep["memory.training"] - shallow["memory.training"] >= 5 * maps
    assert deep["memory.activations"] == shallow["memory.activations"]


@pytest.mark.parametrize(
    ("fields", "copies"),
    [({"momentum": 0.0}, 1), ({"momentum": 0.9}, 2), ({"optimizer": "adam"}, 3)],
    ids=["gradients", "momentum", "Adam"],
)
def test_training_memory_includes_gradients_and_optimiser_state(fields: dict[str, Any], copies: int) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, 10, bias=False))
    result = measure_memory(net, torch.zeros(1, FEATURES, 1, 1), recipe(**fields), device=CPU)
    weights, images = FEATURES * 10 * FLOAT, 8 * FEATURES * FLOAT
    assert result["memory.training"] == pytest.approx((1 + copies) * weights + images, rel=0.01)
    assert result["memory.training.batch"] == 8


@pytest.mark.parametrize("fields", [{"momentum": 0.0}, {"momentum": 0.9}, {"optimizer": "adam"}])
def test_the_allocators_peak_equals_the_count_by_hand(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An allocator that counts live tensors stands in for CUDA's, which reports its peak above the present memory."""
    model, images = chain(4), torch.zeros(2, 4, 8, 8)
    expected = measure_memory(model, images, recipe(**fields), device=CPU)
    allocator = memory._LiveStorageCounter()

    def reset_peak(device: object) -> None:
        allocator.peak = allocator.current

    fakes = {
        "synchronize": lambda device: None, "reset_peak_memory_stats": reset_peak,
        "memory_allocated": lambda device: allocator.current, "max_memory_allocated": lambda device: allocator.peak,
    }  # fmt: skip
    for name, stand_in in fakes.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    real = memory._peak_bytes
    monkeypatch.setattr(memory, "_peak_bytes", lambda work, device: real(work, torch.device("cuda")))
    with allocator:
        assert measure_memory(model, images, recipe(**fields), device=CPU) == expected


def test_measuring_memory_is_repeatable_and_leaves_the_network_unchanged() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    first = measure_memory(net, torch.zeros(4, 1, 8, 8), recipe(), device=CPU)
    assert first == measure_memory(net, torch.zeros(4, 1, 8, 8), recipe(), device=CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


# -- latency


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_MIN_TOTAL_SECONDS", 0.05)


@pytest.mark.usefixtures("brief")
def test_more_work_takes_longer() -> None:
    small, large = (nn.Sequential(nn.Flatten(), nn.Linear(64, n), nn.ReLU(), nn.Linear(n, 10)) for n in (16, 16384))
    images = torch.zeros(64, 1, 8, 8)
    quick, slow = measure_latency(small, images, device=CPU), measure_latency(large, images, device=CPU)
    assert 0 < 3 * quick["latency"] < slow["latency"] < slow["latency.batch"]
    assert slow["latency.batch.size"] == 64
    assert min(slow["latency.spread"], slow["latency.batch.spread"]) >= 0


@pytest.mark.usefixtures("brief")
def test_latency_uses_one_thread_and_eval_mode_and_restores_the_threads() -> None:
    seen: list[tuple[int, bool]] = []

    class Spy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append((torch.get_num_threads(), self.training))
            return images.flatten(1)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure_latency(Spy(), torch.zeros(4, 1, 2, 2), device=CPU)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(1, False)}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.001, 50), (0.03, 17), (1.0, 5)])
def test_rounds_take_ten_milliseconds_each_and_half_a_second_in_total(seconds: float, rounds: int) -> None:
    now, pauses = [0.0], []

    def call() -> None:
        now[0] += seconds

    result = timing._time_rounds(call, lambda: now[0], lambda: pauses.append(now[0]))
    assert abs(len(result) - rounds) <= 1
    assert result == pytest.approx([seconds] * len(result))
    assert len(pauses) == len(result) + 1
    calls = math.ceil(0.01 / seconds)
    assert now[0] == pytest.approx((4 + calls * len(result)) * seconds)
