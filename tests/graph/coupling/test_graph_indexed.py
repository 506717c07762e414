"""Channels beside dimensions that are looked up, written, ordered or transformed by position; those dimensions stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from graph_oracle import check_exact, make_weights_distinct, relative_difference
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph import ModelGraph, Structure, compact, trace, zeroed_copy

TOKENS = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
ORDER = [3, 0, 4, 1]


class Between(nn.Module):
    """Two layers, and a function of what the first returns (batch, tokens, channels) and of the input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(6, 8), nn.Linear(8, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x), x))


def traced(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[nn.Module, ModelGraph]:
    model = make_weights_distinct(Between(function).double()).eval()
    return model, trace(model, TOKENS)


def choose(y: Tensor, dim: int, size: int) -> Tensor:
    """An index that is the same for all positions of the other dimensions."""
    shape = [size if d == dim else 1 for d in range(3)]
    sizes = [size if d == dim else y.shape[d] for d in range(3)]
    return torch.tensor(ORDER[:size]).reshape(shape).expand(sizes)


def assign(y: Tensor, place: object, value: object) -> Tensor:
    y = y.clone()
    y[place] = value  # type: ignore[index, assignment]
    return y


ALONG_TOKENS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "index_add": lambda y, x: y.index_add(1, torch.tensor(ORDER), y[:, 1:], alpha=0.5),
    "index_copy": lambda y, x: y.index_copy(1, torch.tensor(ORDER), y[:, 1:]),
    "index_fill": lambda y, x: y.index_fill(1, torch.tensor(ORDER[:2]), 0.5),
    "gather": lambda y, x: y.gather(1, choose(y, 1, 4)),
    "scatter": lambda y, x: y.tanh().scatter(1, choose(y, 1, 4), y[:, 1:]),
    "scatter_value": lambda y, x: y.scatter(1, choose(y, 1, 2), 0.3),
    "scatter_add": lambda y, x: y.scatter_add(1, choose(y, 1, 4), y[:, 1:]),
    "scatter_reduce": lambda y, x: y.scatter_reduce(1, choose(y, 1, 4), y[:, 1:], "amax"),
    "topk": lambda y, x: y.topk(3, 1).values,
    "sort": lambda y, x: y.sort(1, descending=True).values,
    "median": lambda y, x: y.median(1).values,
    "cummax": lambda y, x: y.cummax(1).values,
    "logcumsumexp": lambda y, x: y.logcumsumexp(1),
    "mask_of_all": lambda y, x: assign(y, y < 0, 0.2),
    "mask_of_tokens": lambda y, x: assign(y, x[..., 0] > 0, 0.2),
    "mask_of_one_dimension": lambda y, x: assign(y, (slice(None), torch.tensor([True, False, True, True, False])), 0.2),
    "row_for_masked_tokens": lambda y, x: assign(y, x[..., 0] > 0, y[0, 0]),
    "positions": lambda y, x: assign(y, (slice(None), torch.tensor([0, 1])), y[:, [3, 2]].tanh()),
    "known_mask": lambda y, x: y[:, torch.tensor([True, False, True, True, False])],
    "fft": lambda y, x: torch.fft.ifft(torch.fft.rfft(y, dim=1) * 1j, dim=1).real,
    "complex": lambda y, x: torch.view_as_real(torch.complex(y, y.sin()) * (1 + 2j)).sum(-1),
}


@pytest.mark.parametrize("name", ALONG_TOKENS)
def test_channels_beside_an_indexed_dimension_are_free(name: str) -> None:
    model, graph = traced(ALONG_TOKENS[name])
    assert graph.unknown == ()
    assert graph.group("first").reason is None
    assert graph.group("first").exact
    for units in ([1], [0, 2, 7]):
        check_exact(model, graph, Structure.dense(graph).remove("first", units), TOKENS)


ALONG_CHANNELS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "index_add": (lambda y, x: y.index_add(2, torch.tensor(ORDER), y[..., :4]), "`index_add` writes to it by index"),
    "gather": (lambda y, x: y.gather(2, torch.arange(8).expand_as(y)), "`gather` looks it up by index"),
    "scatter": (lambda y, x: y.scatter(2, choose(y, 2, 4), 0.0), "`scatter` writes to it by index"),
    "sort": (lambda y, x: y.sort(2).values, "`sort` orders it"),
    "masked_scatter": (lambda y, x: y.masked_scatter(y > 0, y.tanh()), "`masked_scatter` fills it in order"),
    "masked_list": (lambda y, x: assign(y, y > 0, x.new_zeros(20)), "`index_put` writes to it by index"),
    "fft": (lambda y, x: torch.fft.fft(y, dim=2).real, "`fft_r2c` transforms it"),
    "unknown": (lambda y, x: torch.cdist(y, y) @ y, "operator `aten._cdist_forward.default` is not supported"),
}


@pytest.mark.parametrize("name", ALONG_CHANNELS)
def test_channels_that_are_indexed_are_fixed(name: str) -> None:
    function, reason = ALONG_CHANNELS[name]
    assert traced(function)[1].group("first").reason == reason


class Cosines(nn.Module):
    """Cosines of features and class vectors; `written_out` is a head that has to be rewritten."""

    def __init__(self, written_out: bool) -> None:
        super().__init__()
        self.first, self.classes, self.written_out = nn.Linear(6, 8), nn.Parameter(torch.randn(3, 8)), written_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).mean(1)
        if self.written_out:
            one, two = y.chunk(2, 1)
            y = torch.cat([one, two.relu()], 1)
        return 8 * F.linear(F.normalize(y), F.normalize(self.classes))


@pytest.mark.parametrize("written_out", [False, True])
def test_cosines_are_over_the_remaining_channels(written_out: bool) -> None:
    model = make_weights_distinct(Cosines(written_out).double()).eval()
    graph = trace(model, TOKENS)
    assert graph.group("first").reason is None
    assert not graph.group("first").exact
    kept = torch.tensor([0, 2, 3, 5, 6, 7])
    small = compact(model, graph, Structure.dense(graph).remove("first", [1, 4]))
    y = model.first(TOKENS).mean(1)
    y = torch.cat([y[:, :4], y[:, 4:].relu()], 1) if written_out else y
    expected = 8 * F.cosine_similarity(y[:, None, kept], model.classes[:, kept], dim=-1)
    assert relative_difference(small(TOKENS), expected) < 1e-9
    assert relative_difference(zeroed_copy(model, graph, Structure.dense(graph))(TOKENS), model(TOKENS)) < 1e-12
