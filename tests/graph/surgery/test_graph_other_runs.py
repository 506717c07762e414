"""Compact networks in runs other than the traced one: other sizes, lengths and ranks, and training mode."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from graph_oracle import make_weights_distinct, relative_difference
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph import Structure, StructureError, compact, trace, zeroed_copy
from tickdsl.graph.surgery.rewritten import InputSizeError, SurgeryError


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def pruned(network: nn.Module, example: Tensor, **units: list[int]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The dense network, the compact one and its reference."""
    dense = make_weights_distinct(network.double()).eval()
    graph = trace(dense, example)
    structure = Structure.dense(graph)
    for group, removed in units.items():
        structure = structure.remove(group, removed)
    return dense, compact(dense, graph, structure), zeroed_copy(dense, graph, structure)


def assert_equal(small: nn.Module, reference: nn.Module, *inputs: Tensor) -> None:
    for x in inputs:
        assert relative_difference(small(x), reference(x)) < 1e-9


class Clocked(nn.Module):
    """`ticks` scales the positions, and has the value of `channels` by chance; `longest` limits the length."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks = self.channels = 12
        self.longest = 12
        self.first, self.last = nn.Linear(5, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x[:, : self.longest])
        phase = torch.linspace(0, 1, x.shape[1], dtype=x.dtype) * self.ticks
        x = (x + phase.sin()[:, None]).relu()
        pairs = x.reshape(len(x), -1, self.channels // 2, 2).flatten(2)
        return self.last(pairs)


def test_settings_of_equal_value_keep_theirs() -> None:
    dense, small, reference = pruned(Clocked(), random(2, 7, 5), first=[0, 3])
    assert (small.channels, small.ticks, small.longest) == (8, 12, 12)  # units are pairs
    assert_equal(small, reference, random(2, 7, 5), random(3, 11, 5), random(1, 30, 5))
    assert relative_difference(small(random(2, 7, 5)), dense(random(2, 7, 5))) > 1e-3


class TwoUses(Clocked):
    """One attribute is a number of channels here, and a scale there: no value is right for both."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        phase = torch.linspace(0, 1, x.shape[1], dtype=x.dtype) * self.channels
        return self.last((x + phase.sin()[:, None]).reshape(len(x), -1, self.channels // 2, 2).flatten(2))


def test_an_attribute_with_two_uses_is_not_changed() -> None:
    _, small, reference = pruned(TwoUses(), random(2, 7, 5), first=[0, 3])
    assert small.channels == 12
    assert_equal(small, reference, random(2, 7, 5), random(5, 7, 5))
    try:
        assert_equal(small, reference, random(2, 9, 5))
    except InputSizeError as error:
        assert "rewritten for inputs of any×7×5, and got 2×9×5" in str(error)


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        y = self.layer(x.mean((2, 3)))
        return [y, y.argmax(1)] if not self.training else y


class Halves(nn.Module):
    """A module that has to be rewritten, since its halves may lose different numbers of channels."""

    scale = 2.0

    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.tail = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 3, 3, padding=1), tail
        self.note = {"author": "nobody"}

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        return self.tail(self.joined([left, right, self.second(right) * self.scale]))

    def joined(self, parts: list[Tensor]) -> Tensor:
        return torch.cat(parts, 1)


@pytest.mark.parametrize("removed", [[1], [4], [0, 4]])
def test_a_rewritten_module_passes_on_what_its_children_return(removed: list[int]) -> None:
    _, small, reference = pruned(Halves(Scores()), random(2, 3, 8, 8), first=removed)
    assert_equal(small, reference, random(2, 3, 8, 8), random(3, 3, 6, 10))
    small.train(), reference.train()
    assert small(random(2, 3, 8, 8)).shape == (2, 3)
    assert_equal(small, reference, random(2, 3, 8, 8))


def test_a_rewritten_module_stays_what_it_was() -> None:
    dense, small, _ = pruned(Halves(nn.Conv2d(9, 2, 1)), random(2, 3, 8, 8), first=[1])
    for network in (small, copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert isinstance(network, Halves)
        assert type(network).__name__ == "Halves"
        assert network.joined([random(2, 1), random(2, 2)]).shape == (2, 3)
        assert (network.note, network.scale) == ({"author": "nobody"}, 2.0)
        assert list(network.state_dict()) == list(dense.state_dict())
        assert torch.equal(network(random(1, 3, 5, 7)), small(random(1, 3, 5, 7)))
    twin = copy.deepcopy(small)
    twin.first.weight.data.zero_()
    assert not torch.equal(twin(random(1, 3, 5, 7)), small(random(1, 3, 5, 7)))
    with pytest.raises(InputSizeError, match="was rewritten for inputs of any×3×any×any, and got 3×5×7"):
        small(random(3, 5, 7))


class Shuffled(nn.Module):
    """Splits channels and shuffles them by sizes from the input, so that other image sizes are computed from them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).chunk(2, 1)
        x = torch.cat([one, self.mix(two)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
        return self.head(x.view(batch, -1, height, width))


def test_rewritten_code_is_right_for_other_image_sizes() -> None:
    _, small, reference = pruned(Shuffled(), random(2, 3, 8, 8), stem=[1, 4])
    assert_equal(small, reference, random(2, 3, 8, 8), random(1, 3, 8, 12), random(5, 3, 20, 6))


class Unrolled(nn.Module):
    """A loop over time in a module that has to be rewritten: another length is another sequence of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.feed, self.out = nn.Linear(6, 6), nn.Linear(4, 6), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = self.feed(x[:, 0])
        for moment in range(1, x.shape[1]):
            kept, changed = state.chunk(2, 1)
            state = torch.cat([kept, changed.tanh()], 1) + self.feed(x[:, moment])
        return self.out(state.chunk(2, 1)[0])


def test_an_unrolled_loop_refuses_other_lengths() -> None:
    network = Unrolled()
    _, small, reference = pruned(network, random(2, 5, 4), feed=[1])
    assert_equal(small, reference, random(2, 5, 4), random(7, 5, 4))
    with pytest.raises(InputSizeError, match="and got 2×8×4"):
        small(random(2, 8, 4))


class TrainedOtherwise(nn.Module):
    """Code for training only, which holds a size."""

    def __init__(self, rewritable: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
        if rewritable:
            self.features = 8

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.training:
            x = x.reshape(-1, getattr(self, "features", 8)) * 2
        return self.last(x)


def test_sizes_in_code_for_training_are_found() -> None:
    _, small, reference = pruned(TrainedOtherwise(True), random(4, 5), first=[1])
    assert small.features == 7
    assert_equal(small.train(), reference.train(), random(4, 5))
    with pytest.raises(SurgeryError, match="training mode"):
        pruned(TrainedOtherwise(False), random(4, 5), first=[1])


class Layer(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(6, 8), layer, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.first(x))
        return self.last(y[0] if isinstance(y, tuple) else y)


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda: nn.RMSNorm(8), [(2, 6), (2, 3, 4, 6)]),
        (lambda: nn.RMSNorm(8, elementwise_affine=False), [(2, 6), (2, 3, 4, 6)]),
        (lambda: nn.LayerNorm(8, elementwise_affine=False), [(2, 6), (2, 3, 4, 6)]),
        (lambda: nn.LSTM(8, 10, proj_size=4, batch_first=True), [(2, 9, 6), (1, 1, 6)]),
        (lambda: nn.GRU(8, 4, batch_first=True), [(2, 9, 6)]),
    ],
    ids=["rms", "plain-rms", "plain-layer-norm", "projected", "gated"],
)
def test_layers_of_torch_stay_what_they_are(make: Callable[[], nn.Module], shapes: list[tuple[int, ...]]) -> None:
    network = Layer(make())
    network(torch.randn(2, 5, 6))
    _, small, reference = pruned(network, random(2, 5, 6), first=[0, 5])
    assert type(small.layer) is type(make())
    assert_equal(small, reference, random(2, 5, 6), *(random(*shape) for shape in shapes))


def test_only_the_dense_network_can_be_compacted() -> None:
    dense = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    graph = trace(dense, torch.zeros(1, 4))
    structure = Structure.dense(graph).remove("0", [1])
    small = compact(dense, graph, structure)
    for function in (compact, zeroed_copy):
        with pytest.raises(StructureError, match=r"`0\.weight` is 5×4, in the traced network 6×4"):
            function(small, graph, structure)
        with pytest.raises(StructureError, match=r"has no `0\.weight`"):
            function(nn.Linear(4, 2), graph, structure)


class ReadsValues(nn.Module):
    """Chooses what to do by values: those of constants, or those of a mask."""

    def __init__(self, split: bool) -> None:
        super().__init__()
        self.first, self.last, self.split = nn.Linear(5, 8), nn.Linear(4, 3), split

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.first(x)
        order = torch.arange(x.shape[1])
        if (order.diff() == 1).all() and (self.split or torch.tensor([0, 1]).sum() == 1):
            x = x.relu()
        if mask is not None and not mask.all():
            x = x * mask[..., None]
        if self.split:
            return self.last(x.chunk(2, -1)[0])
        return self.last(x[..., ::2] + x[..., 1::2])


def test_values_of_constants_and_masks_are_known() -> None:
    dense = make_weights_distinct(ReadsValues(False).double()).eval()
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    for inputs in ({"x": random(2, 7, 5)}, {"x": random(2, 7, 5), "mask": mask}):
        graph = trace(dense, inputs)
        structure = Structure.dense(graph).remove("first", [1])
        small, reference = compact(dense, graph, structure), zeroed_copy(dense, graph, structure)
        assert small.first.out_features < 8
        assert relative_difference(small(**inputs), reference(**inputs)) < 1e-9
    with pytest.raises(TickdslError, match=r"meta tensors \(.*test_graph_other_runs\.py:\d+\)"):
        trace(nn.Sequential(nn.Linear(5, 5), _Branch()), random(2, 5))


class _Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_code_that_reads_a_mask_is_not_rewritten() -> None:
    dense = ReadsValues(True).double().eval()
    graph = trace(dense, {"x": random(2, 7, 5), "mask": torch.zeros(2, 7, dtype=torch.bool)})
    with pytest.raises(SurgeryError, match="depends on the values of tensors"):
        compact(dense, graph, Structure.dense(graph).remove("first", [1]))
