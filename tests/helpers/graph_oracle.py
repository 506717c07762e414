"""Reference networks that a compact network must match, and weights that expose mistakes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, Structure, compact, kept_indices, zeroed_copy


def make_weights_distinct(model: nn.Module, seed: int = 1) -> nn.Module:
    """Make all values distinct: nonzero biases, and norms and running statistics that are not the identity."""
    rng = torch.Generator().manual_seed(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.rand(tensor.shape, generator=rng, dtype=torch.float64).to(tensor.dtype)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.05 + 0.3 * noise(parameter))
            elif float(parameter.std()) < 1e-6:
                parameter.copy_(0.1 * noise(parameter) - 0.05)
        for module in model.modules():
            if isinstance(getattr(module, "running_mean", None), Tensor):
                module.running_mean.copy_(0.2 * noise(module.running_mean) - 0.1)
                module.running_var.copy_(0.5 + noise(module.running_var))
    return model


def random_thinning(graph: ModelGraph, share: float, seed: int = 0, only: Iterable[str] | None = None) -> Structure:
    """Remove a random share of each removable channel group."""
    rng = np.random.default_rng(seed)
    structure = Structure.dense(graph)
    for group in graph.channels:
        if group.reason is None and group.size > 1 and (only is None or group.name in only):
            count = min(math.ceil(group.size * share), group.size - 1)
            structure = structure.remove(group.name, rng.choice(group.size, count, replace=False))
    return structure


def random_layer_removal(graph: ModelGraph, share: float, seed: int = 0) -> Structure:
    """Remove half of the layers and a share of each group; groups tied by a removed block lose the same units."""
    rng = np.random.default_rng(seed)
    structure = Structure.dense(graph)
    ties = nx.Graph()
    for place in rng.permutation(len(graph.layers))[: (len(graph.layers) + 1) // 2]:
        structure = structure.remove_block(graph.layers[place].name)
        ties.add_edges_from(graph.layers[place].ties)
    followers = {name for tied in nx.connected_components(ties) for name in sorted(tied)[1:]}
    free = [group.name for group in graph.channels if group.name not in followers]
    return structure.intersect(random_thinning(graph, share, seed, only=free))


class NormOverKept(nn.Module):
    """A layer norm with statistics over the kept channels only, along the last dimension or the second."""

    def __init__(self, norm: nn.LayerNorm, kept: np.ndarray, second: bool) -> None:
        super().__init__()
        self.norm, self.second, self.eps = norm, second, norm.eps
        self.kept = torch.from_numpy(kept.copy())
        self.kept_mask = torch.zeros(norm.normalized_shape, dtype=norm.weight.dtype).index_fill_(0, self.kept, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1) if self.second else x
        visible = x[..., self.kept]
        mean, variance = visible.mean(-1, keepdim=True), visible.var(-1, keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(variance + self.norm.eps) * self.norm.weight + self.norm.bias
        x = x * self.kept_mask  # for products of activations, which no weight can zero
        return x.movedim(-1, 1) if self.second else x


def zeroed_reference(model: nn.Module, graph: ModelGraph, structure: Structure) -> nn.Module:
    """`zeroed_copy` with layer norms over the kept channels, so that removal is exact for networks with layer norms."""
    zeroed = zeroed_copy(model, graph, structure)
    for path, module in list(zeroed.named_modules()):
        if isinstance(module, nn.LayerNorm):
            kept = kept_indices(graph, structure, f"{path}.weight")[0]
            if kept is not None:
                zeroed.set_submodule(path, NormOverKept(module, kept, type(module).__name__ == "LayerNorm2d"))
    return zeroed


def outputs(result: object) -> list[Tensor]:
    """The tensors that a network returns."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def relative_difference(first_result: object, second_result: object) -> float:
    """The largest difference between outputs, relative to the largest value."""
    return max(
        float((a - b).detach().abs().max() / b.abs().max().clamp_min(1e-12))
        for a, b in zip(outputs(first_result), outputs(second_result), strict=True)
    )


def check_exact(
    model: nn.Module, graph: ModelGraph, structure: Structure, *inputs: Tensor, **named: Tensor
) -> nn.Module:
    """Check that `compact` equals `zeroed_reference` and not the dense network; returns the compact network."""
    small = compact(model, graph, structure)
    with torch.no_grad():
        networks = (small, zeroed_reference(model, graph, structure), model)
        actual, expected, dense = (network(*inputs, **named) for network in networks)
    assert relative_difference(actual, expected) < 1e-6
    assert relative_difference(actual, dense) > 1e-9, "the removal changed nothing, so the comparison is void"
    return small


@contextmanager
def emptied(model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure) -> Iterator[None]:
    """Zero the inputs that the layers of the small network lost, and bypass removed blocks, within the context.

    Independent of the roles in the graph and of `zeroed_copy`: checks that each smaller weight is the part of the dense
    one given by `kept_indices`, and zeroes the rest of its input dimension; in attention layers, the queries too.
    """
    remaining = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    removed = {name for block in structure.removed_blocks for name in graph.block(block).parameters}
    with ExitStack() as stack:
        for path, module in list(model.named_modules()):
            own = (*module.named_parameters(path, recurse=False), *module.named_buffers(path, recurse=False))
            pruned = [(name, t) for name, t in own if name not in removed and remaining[name].shape != t.shape]
            for name, tensor in pruned:
                kept = kept_indices(graph, structure, name)
                part = tensor.detach()
                for dim, index in enumerate(kept):
                    part = part if index is None else part.index_select(dim, torch.from_numpy(index.copy()))
                assert torch.equal(remaining[name].detach(), part), f"`{name}` is not the kept part of the dense weight"
                dim = _input_dimension(module, name.rpartition(".")[2])
                if dim is not None and kept[dim] is not None:
                    columns = np.setdiff1d(np.arange(tensor.shape[dim]), kept[dim])
                    stack.enter_context(_zeroed(tensor, dim, torch.from_numpy(columns)))
                if kept[0] is not None and _holds_queries(path, name):
                    rows = np.setdiff1d(np.arange(len(tensor) // 3), kept[0])
                    stack.enter_context(_zeroed(tensor, 0, torch.from_numpy(rows)))
            if pruned and isinstance(module, nn.LayerNorm):
                kept_channels = kept_indices(graph, structure, f"{path}.weight")[0]
                norm = NormOverKept(module, kept_channels, type(module).__name__ == "LayerNorm2d")
                stack.callback(model.set_submodule, path, module)
                model.set_submodule(path, norm)
        for block in structure.removed_blocks:
            stack.enter_context(_bypassed(model, graph.block(block).replaced))
        yield


def _input_dimension(module: nn.Module, name: str) -> int | None:
    """The input dimension of a layer's weight."""
    if isinstance(module, nn.modules.conv._ConvNd) and name == "weight":
        return 0 if module.transposed else 1
    if (isinstance(module, nn.Linear) and name == "weight") or name == "in_proj_weight":
        return 1
    return None


def _holds_queries(path: str, name: str) -> bool:
    """Whether the first third of a tensor produces the queries; zero queries have zero products with the keys."""
    return path.rpartition(".")[2] in ("qkv", "to_qkv") or name.rpartition(".")[2].startswith("in_proj")


@contextmanager
def _zeroed(tensor: Tensor, dim: int, columns: Tensor) -> Iterator[None]:
    before = tensor.data.index_select(dim, columns)
    tensor.data.index_fill_(dim, columns, 0)
    try:
        yield
    finally:
        tensor.data.index_copy_(dim, columns, before)


@contextmanager
def _bypassed(model: nn.Module, run: Sequence[str]) -> Iterator[None]:
    """Make the last module of a block return the input of the first as its (first) result, within the context."""
    visible: list[Tensor] = []
    first, last = model.get_submodule(run[0]), model.get_submodule(run[-1])

    def before(_: nn.Module, args: Sequence[Tensor], kwargs: dict[str, Tensor]) -> None:
        visible.append((*args, *kwargs.values())[0].clone())

    def after(_: nn.Module, args: object, result: object) -> object:
        return type(result)([visible.pop(), *result[1:]]) if isinstance(result, tuple | list) else visible.pop()

    handles = [first.register_forward_pre_hook(before, with_kwargs=True), last.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
