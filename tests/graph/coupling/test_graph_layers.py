"""`layers` are what a person would call a layer: whole blocks, with masks and further results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from graph_agreement import agreement
from graph_oracle import relative_difference
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, Structure, TraceError, compact, trace, zeroed_copy
from tickdsl.graph.layer_tree import GraphView


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


class Masked(nn.Module):
    """A residual layer with a mask beside its input, and weights and a size beside its output."""

    def __init__(self, leaks: bool = False) -> None:
        super().__init__()
        self.attend, self.project, self.leaks = nn.Linear(8, 8), nn.Linear(8, 8), leaks

    def forward(self, x: Tensor, size: tuple[int, int], *, mask: Tensor | None = None) -> Any:
        weights = self.attend(x).softmax(-1)
        y = self.project(x * weights)
        return [x + (y if mask is None else y * mask), size, weights]


class Tower(nn.Module):
    def __init__(self, leaks: bool = False) -> None:
        super().__init__()
        self.stem, self.head, self.leaks = nn.Linear(5, 8), nn.Linear(8, 3), leaks
        self.layers = nn.ModuleList([Masked(leaks) for _ in range(3)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x, size = self.stem(x), (len(x), x.shape[1])
        extra: Any = 0
        for layer in self.layers:
            x, size, weights = layer(x, size, mask=mask[..., None])
            extra = weights if self.leaks else 0
        assert size == tuple(x.shape[:2])
        return self.head(x + extra)


def assert_exact_without(network: nn.Module, graph: ModelGraph, block: str, *inputs: Tensor) -> None:
    structure = Structure.dense(graph).remove_block(block)
    small = compact(network, graph, structure)
    assert agreement(network, small, graph, structure, inputs, gradients=False).exact
    assert len(list(small.parameters())) < len(list(network.parameters()))


def test_a_layer_with_a_mask_and_further_results_can_be_removed() -> None:
    network = Tower().double().eval()
    inputs = random(2, 4, 5), random(2, 4)
    graph = ModelGraph.from_json(trace(network, inputs).to_json())
    assert [block.name for block in graph.layers] == ["layers.0", "layers.1", "layers.2"]
    for block in graph.layers:
        assert_exact_without(network, graph, block.name, *inputs)


def test_a_layer_whose_further_result_is_used_stays() -> None:
    graph = trace(Tower(leaks=True).double().eval(), (random(2, 4, 5), random(2, 4)))
    assert [block.name for block in graph.layers] == ["layers.0", "layers.1"]


class Encoder(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem, self.encoder = nn.Linear(5, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.encoder(self.stem(x), mask).mean(1)


@pytest.mark.parametrize("masked", [False, True])
def test_transformer_layers_of_torch_are_layers(masked: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    network = Encoder(layer).double().eval()
    inputs = (random(2, 4, 5), torch.ones(4, 4).triu(1).bool()) if masked else (random(2, 4, 5),)
    graph = trace(network, inputs)
    assert [block.name for block in graph.layers] == ["encoder.layers.0", "encoder.layers.1"]
    assert_exact_without(network, graph, "encoder.layers.1", *inputs)


class Gated(nn.Module):
    """A residual block with a squeeze-and-excitation module inside, which is no layer by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(6, 6, 3, padding=1), _Gate()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate(self.conv(x))


class _Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def test_gates_are_no_layers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 1), Gated(), Gated(), nn.Conv2d(6, 2, 1))
    graph = trace(network, torch.zeros(1, 3, 8, 8))
    assert [block.name for block in graph.layers] == ["1", "2"]
    assert graph.block("1.gate").kind == "plain"


class HalfInModules(nn.Module):
    """A transformer-like layer: the first half is a residual module, the second half is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed, self.up, self.down = Residual(), nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixed(x)
        return x + self.down(self.up(x).relu())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layer(x).relu()


def test_a_layer_with_weights_beside_its_inner_block_is_whole() -> None:
    network = nn.Sequential(nn.Linear(5, 8), HalfInModules(), nn.Sequential(Residual(), Residual()), nn.Linear(8, 3))
    graph = trace(network, torch.zeros(2, 5))
    assert [block.name for block in graph.layers] == ["1", "2.0", "2.1"]


@dataclasses.dataclass
class Answer:
    scores: Tensor
    further: list[Tensor]


class Holder:
    def __init__(self, scores: Tensor) -> None:
        self.inner = {"scores": scores}


class Returns(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.last, self.kind = nn.Linear(5, 8), nn.Linear(8, 4), kind

    def forward(self, x: Tensor) -> Any:
        y = self.last(self.first(x))
        return {
            "dataclass": lambda: Answer(x, [y]),
            "object": lambda: Holder(y),
            "nested": lambda: (Answer(x, [Holder(y)]), None),  # type: ignore[list-item]
            "iterator": lambda: iter([y]),
            "generator": lambda: self.generate(y),
        }[self.kind]()

    def generate(self, y: Tensor) -> Iterator[Tensor]:
        yield y


@pytest.mark.parametrize("kind", ["dataclass", "object", "nested"])
def test_outputs_in_containers_are_fixed(kind: str) -> None:
    graph = trace(Returns(kind), torch.zeros(2, 5))
    assert graph.group("last").reason == "the network's output"
    assert graph.group("first").reason is None


@pytest.mark.parametrize("kind", ["iterator", "generator"])
def test_outputs_that_cannot_be_seen_are_an_error(kind: str) -> None:
    with pytest.raises(TraceError, match=f"Returns returns a (list_)?{kind}, whose tensors cannot be seen"):
        trace(Returns(kind), torch.zeros(2, 5))


class TakesBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 4)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.last(self.first(batch["image"]) * batch["scale"][0])


def test_a_dictionary_can_be_the_argument() -> None:
    network = TakesBatch().double()
    batch = {"image": random(2, 5), "scale": [random(1)]}
    graph = ModelGraph.from_json(trace(network, batch).to_json())
    view = GraphView(graph)
    assert graph.input_shapes == ((2, 5), (1,))
    assert (view.batch_size, view.dense.macs) == (2, 5 * 8 + 8 * 4)
    small = compact(network, graph, Structure.dense(graph).remove("first", [0, 7]))
    reference = zeroed_copy(network, graph, Structure.dense(graph).remove("first", [0, 7]))
    assert small.first.out_features == 6
    assert relative_difference(small(batch), reference(batch)) < 1e-9
