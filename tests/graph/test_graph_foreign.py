"""Networks written in the style of third-party code, with patterns found in public model collections."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from graph_oracle import check_exact, make_weights_distinct, random_thinning, relative_difference, zeroed_reference
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, Structure, compact, trace

IMAGES = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def traced(make: Callable[[], nn.Module], x: Tensor) -> tuple[nn.Module, ModelGraph]:
    torch.manual_seed(0)
    model = make_weights_distinct(make().double()).eval()
    return model, trace(model, x)


def free(graph: ModelGraph) -> dict[str, int]:
    return {group.name: group.size for group in graph.channels if group.reason is None}


class StandardisedConv(nn.Conv2d):
    """Weights with zero mean and unit variance per filter, by a batch norm over the weights or written out."""

    def __init__(self, *sizes: int, variant: str) -> None:
        super().__init__(*sizes)
        self.variant, self.gain = variant, nn.Parameter(torch.ones(sizes[1], 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.variant == "batch-norm":
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        else:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            weight = weight / (weight.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return F.conv2d(x, weight * self.gain, self.bias)


def standardised(variant: str) -> nn.Module:
    if variant == "weight-norm":
        layers = [nn.utils.parametrizations.weight_norm(nn.Conv2d(one, two, 1)) for one, two in ((3, 8), (8, 6))]
    else:
        layers = [StandardisedConv(3, 8, 1, variant=variant), StandardisedConv(8, 6, 1, variant=variant)]
    return nn.Sequential(
        layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten(), nn.Linear(256, 2)
    )


class Formula(nn.Module):
    """`standardised` with only the kept channels of the first layer."""

    def __init__(self, model: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.model, self.kept = model, kept

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.model[0], copy.deepcopy(self.model[2])
        x = F.relu(first(x))[:, self.kept]
        original = second.get_parameter(next(name for name, p in second.named_parameters() if p.shape[:2] == (6, 8)))
        original.data = original.data[:, self.kept]
        return self.model[3:](second(x))


@pytest.mark.parametrize("variant", ["batch-norm", "written-out", "weight-norm"])
def test_normalised_weights_are_normalised_over_the_kept_channels(variant: str) -> None:
    model, graph = traced(lambda: standardised(variant), IMAGES)
    names = [group.name for group in graph.channels if group.reason is None]
    assert [graph.group(name).size for name in names] == [8, 6, 4]
    assert [graph.group(name).kind for name in names] == ["filters"] * 3
    assert not graph.group(names[0]).exact  # the next layer's weights are normalised over them
    structure = Structure.dense(graph).remove(names[0], [1, 4, 5])
    small = compact(model, graph, structure)
    assert relative_difference(small(IMAGES), Formula(model, torch.tensor([0, 2, 3, 6, 7]))(IMAGES)) < 1e-12
    assert relative_difference(small(IMAGES), model(IMAGES)) > 1e-3
    exact = [name for name in names if graph.group(name).exact]
    assert names[-1] in exact
    check_exact(model, graph, random_thinning(graph, 0.4, only=exact), IMAGES)


class Rotary(nn.Module):
    """Attention with a rotary table shared by all layers, and a prefix token that is not rotated."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style, self.heads, self.dims = style, 4, 4
        self.layers = nn.ModuleList([nn.Linear(10, 48, bias=False) for _ in range(2)])
        self.projections = nn.ModuleList([nn.Linear(16, 10) for _ in range(2)])
        self.embed, self.head = nn.Linear(6, 10), nn.Linear(10, 3)
        self.norm = nn.LayerNorm(4) if style == "normed" else nn.Identity()
        self.register_buffer("angles", torch.rand(2))

    def table(self, length: int) -> Tensor:
        if self.style == "computed":
            steps = torch.arange(4, dtype=torch.float64) / 4
            return torch.outer(torch.arange(length, dtype=torch.float64), steps)
        angles = torch.outer(torch.arange(length, dtype=torch.float64), self.angles)
        return angles.repeat(1, 2) if self.style != "interleaved" else angles.repeat_interleave(2, 1)

    def turned(self, x: Tensor) -> Tensor:
        table = self.table(x.shape[2] - 1)
        prefix, x = x[:, :, :1], x[:, :, 1:]
        if self.style == "interleaved":
            other = torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)
        else:
            one, two = x.chunk(2, -1)
            other = torch.cat([-two, one], -1)
        return torch.cat([prefix, x * table.cos() + other * table.sin()], 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer, projection in zip(self.layers, self.projections, strict=True):
            n, length, _ = x.shape
            q, k, v = layer(x).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            q, k = self.turned(self.norm(q)), self.turned(self.norm(k))
            y = F.scaled_dot_product_attention(q, k, v, scale=0.5)
            x = x + projection(y.transpose(1, 2).reshape(n, length, -1))
        return self.head(x.mean(1))


@pytest.mark.parametrize("style", ["halves", "interleaved", "computed", "normed"])
def test_heads_with_rotary_tables_can_be_removed(style: str) -> None:
    model, graph = traced(lambda: Rotary(style), TOKENS)
    assert {name: size for name, size in free(graph).items() if name.startswith("layers") and ":" not in name} == {
        "layers.0": 4,
        "layers.1": 4,
    }
    dims = [group for group in graph.channels if group.kind == "head-dims"]
    if style in ("halves", "interleaved"):  # one table: the same pairs of dims in both layers
        assert [(group.size, group.reason) for group in dims] == [(2, None)]
    else:
        assert all(group.reason is not None for group in dims)
    check_exact(model, graph, random_thinning(graph, 0.4), TOKENS)
    for name in free(graph):
        check_exact(model, graph, random_thinning(graph, 0.5, only=[name]), TOKENS)


class Shared(nn.Module):
    """A module under two parents that runs twice, with hard-coded sizes, and a module under two names of one parent."""

    class Position(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = [2, 6]
            self.convs = nn.ModuleList([nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(6, 6, 3, padding=1, groups=6)])

        def forward(self, x: Tensor) -> Tensor:
            parts = torch.split(x, self.split, 1)
            return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], 1)

    class Part(nn.Module):
        def __init__(self, position: nn.Module) -> None:
            super().__init__()
            self.conv, self.position = nn.Conv2d(8, 8, 1), position

        def forward(self, x: Tensor, *more: Tensor, **options: Tensor) -> Tensor:
            x = self.conv(x).view(-1, 8, 64).view(-1, 8, 8, 8)
            return x * self.position(x) + more[0] * options["scale"]

    def __init__(self) -> None:
        super().__init__()
        self.position = Shared.Position()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 1), Shared.Part(self.position), Shared.Part(self.position)
        self.last = nn.Conv2d(8, 8, 1)
        self.body = nn.Sequential(self.last, nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.body(self.two(self.one(x, x, scale=x[:, :1]), x, scale=x) + x)
        return self.head(x.mean((2, 3)))


def test_modules_that_have_several_names() -> None:
    model, graph = traced(Shared, IMAGES)
    structure = random_thinning(graph, 0.4)
    small = check_exact(model, graph, structure, IMAGES)
    assert small.one.position is small.two.position is small.position
    assert list(small.state_dict()) == list(model.state_dict())
    assert small.body[0] is small.last


class ByHead(nn.Module):
    """Hard-codes the number of heads, and passes heads and batch in one dimension to another module."""

    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.rand(3, 5))

        def forward(self, q: Tensor) -> Tensor:
            bias = (q.reshape(-1, 3) @ self.table).reshape(-1, 1, 5, 5)
            return bias.expand(-1, 2, -1, -1).reshape(-1, 2, 5, 5)

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = nn.Linear(6, 24), nn.Linear(6, 24), nn.Linear(6, 24), nn.Linear(24, 4)
        self.bias = ByHead.Bias()

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        q, k, v = (layer(x).view(n, 5, 8, 3).transpose(1, 2).reshape(n * 8, 5, 3) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(1, 2) + self.bias(q).mean(1)
        return self.proj((scores.softmax(-1) @ v).view(n, 8, 5, 3).transpose(1, 2).reshape(n, 5, 24)).mean(1)


def test_the_batch_size_is_read_correctly_if_heads_were_removed() -> None:
    model, graph = traced(ByHead, TOKENS)
    structure = random_thinning(graph, 0.6, only=["q"])
    assert structure.kept
    small = check_exact(model, graph, structure, TOKENS)
    assert relative_difference(small(TOKENS[:1]), small(TOKENS)[:1]) < 1e-12


class Windows(nn.Module):
    """Images split into windows and put together again."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self.stem, self.mix = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1)
        self.columns, self.head = nn.Linear(8 * 4, 8 * 4), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.variant == "unfold":
            x = x.unfold(2, 4, 4).unfold(3, 4, 4).amax((4, 5))
        elif self.variant == "im2col":
            n, c, h, w = x.shape
            x = F.unfold(x, 3, padding=1).reshape(n, c, 9, h * w).amax(2).reshape(n, c, h, w)
        elif self.variant == "grid":
            grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 4), indexing="ij"), -1)
            x = F.grid_sample(x, grid.to(x).expand(len(x), -1, -1, -1), align_corners=False)
        else:
            columns = self.columns(F.unfold(x, 2, stride=2).transpose(1, 2)).transpose(1, 2)
            x = F.fold(columns, x.shape[2:], 2, stride=2)
        return self.head(F.relu(self.mix(x)).mean((2, 3)))


@pytest.mark.parametrize("variant", ["unfold", "im2col", "col2im", "grid"])
def test_channels_are_tracked_through_windows(variant: str) -> None:
    model, graph = traced(lambda: Windows(variant), IMAGES)
    assert graph.unknown == ()
    groups = free(graph)
    assert groups["stem"] == 8
    assert groups["mix"] == 6
    assert groups.get("columns", 8) == 8  # all four positions of a channel at once
    check_exact(model, graph, random_thinning(graph, 0.4), IMAGES)
    for name in groups:
        check_exact(model, graph, random_thinning(graph, 0.4, only=[name]), IMAGES)


class Normalised(nn.Module):
    """Additive attention over queries of unit norm."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.weight, self.proj = nn.Linear(6, 8), nn.Parameter(torch.rand(8, 1)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        query = F.normalize(self.query(x), dim=-1)
        return self.proj((query * (query @ self.weight).softmax(1)).sum(1))


def test_a_norm_expanded_over_channels_follows_the_kept_ones() -> None:
    model, graph = traced(Normalised, TOKENS)
    assert free(graph) == {"query": 8}
    assert not graph.group("query").exact
    structure = Structure.dense(graph).remove("query", [1, 4, 5])
    small = compact(model, graph, structure)
    kept = torch.tensor([0, 2, 3, 6, 7])
    query = F.normalize(model.query(TOKENS)[..., kept], dim=-1)
    expected = (query * (query @ model.weight[kept]).softmax(1)).sum(1) @ model.proj.weight[:, kept].T + model.proj.bias
    assert relative_difference(small(TOKENS), expected) < 1e-12
    assert relative_difference(zeroed_reference(model, graph, structure)(TOKENS), expected) > 1e-3


class Places(nn.Module):
    """Selects channels by index."""

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self.stem, self.some, self.all = nn.Conv2d(3, 12, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(12, 5, 1)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.variant == "middle":
            some = self.some(x[:, 4:8])
        elif self.variant == "every other":
            some = self.some(x[:, 1:9:2])
        elif self.variant == "one":
            some = x[:, 5][:, None] * self.some(x[:, 4:8])
        elif self.variant == "flipped":
            some = self.some(x.flip(1)[:, :4])
        else:
            some, x = self.some(x[:, :4]), x.roll(2, 1)
        return self.head((F.relu(some) + self.all(x)).mean((2, 3)))


@pytest.mark.parametrize("variant", ["middle", "one", "flipped", "rolled"])
@pytest.mark.parametrize("removed", [[1, 2, 6, 7, 10, 11], [1], [1, 8], [6], [9, 10], [0, 5, 8]])
def test_channels_selected_by_index_are_the_right_ones(variant: str, removed: list[int]) -> None:
    """Even if selecting the wrong channels would give the same shape."""
    model, graph = traced(lambda: Places(variant), IMAGES)
    stem = next(group for group in graph.channels if group.name == "stem")
    (rows,) = [piece for piece in stem.slices if piece.parameter == "stem.weight"]
    units = [int(unit) for channel, unit in zip(rows.index, rows.unit, strict=True) if channel in removed]
    check_exact(model, graph, Structure.dense(graph).remove("stem", units), IMAGES)


def test_slices_with_a_step_are_exact_or_an_error() -> None:
    model, graph = traced(lambda: Places("every other"), IMAGES)
    errors = 0
    for unit in range(graph.group("stem").size):
        structure = Structure.dense(graph).remove("stem", [unit])
        try:
            check_exact(model, graph, structure, IMAGES)
        except TickdslError as error:
            assert "evenly spaced" in str(error)
            errors += 1
    assert 0 < errors < graph.group("stem").size


class Remembering(nn.Module):
    """Caches tensors computed from weights by device, and reads attributes of a removable layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.rand(6, 1, 1))
        self.known: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if str(x.device) not in self.known:
            self.known[str(x.device)] = self.scale.square().detach()
        x = self.stem(x) * self.known[str(x.device)]
        x = self.middle(F.pad(x, [self.middle.stride[0] - 1] * 4))
        return self.head(F.relu(x).mean((2, 3)))


def test_tensors_cached_from_dense_weights_are_cleared() -> None:
    torch.manual_seed(0)
    model = make_weights_distinct(Remembering().double()).eval()
    model(IMAGES)
    graph = trace(model, IMAGES)
    small = check_exact(model, graph, random_thinning(graph, 0.4, only=["stem"]), IMAGES)
    assert small.known["cpu"].shape == (3, 1, 1)
    assert model.known["cpu"].shape == (6, 1, 1)
    check_exact(model, graph, Structure.dense(graph).remove_block("middle"), IMAGES)


class Furnished(nn.Module):
    """Has tensors that are neither parameters nor buffers: an attribute, and a dictionary that is never refilled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 2)
        self.tables = {"shift": torch.full((1,), 0.5)}
        self.slope = torch.full((), 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((F.relu(self.stem(x)) + self.tables["shift"]).mean((2, 3)) * self.slope)


def test_tensors_other_than_parameters_and_buffers_are_kept() -> None:
    torch.manual_seed(0)
    model = make_weights_distinct(Furnished().double()).eval()
    graph = trace(model, IMAGES)
    small = check_exact(model, graph, random_thinning(graph, 0.4, only=["stem"]), IMAGES)
    assert torch.equal(small.tables["shift"], model.tables["shift"])
