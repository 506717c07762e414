"""What a compact network must equal, and weights on which a mistake shows."""

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
    """Distinct values everywhere: biases that are not zero, norms and statistics that are no identity."""
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
    """A random share of every removable channel group is gone."""
    rng = np.random.default_rng(seed)
    structure = Structure.dense(graph)
    for group in graph.channels:
        if group.reason is None and group.size > 1 and (only is None or group.name in only):
            count = min(math.ceil(group.size * share), group.size - 1)
            structure = structure.remove(group.name, rng.choice(group.size, count, replace=False))
    return structure


def random_layer_removal(graph: ModelGraph, share: float, seed: int = 0) -> Structure:
    """Half of the layers are gone, and a share of every group; groups that a missing block ties lose the same."""
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
    """A layer norm whose statistics see only the channels that are left, over the last dimension or the second."""

    def __init__(self, norm: nn.LayerNorm, kept: np.ndarray, second: bool) -> None:
        super().__init__()
        self.norm, self.second, self.eps = norm, second, norm.eps
        self.kept = torch.from_numpy(kept.copy())
        self.stays = torch.zeros(norm.normalized_shape, dtype=norm.weight.dtype).index_fill_(0, self.kept, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1) if self.second else x
        seen = x[..., self.kept]
        mean, variance = seen.mean(-1, keepdim=True), seen.var(-1, keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(variance + self.norm.eps) * self.norm.weight + self.norm.bias
        x = x * self.stays  # for products of activations, which no weight silences
        return x.movedim(-1, 1) if self.second else x


def silenced(model: nn.Module, graph: ModelGraph, structure: Structure) -> nn.Module:
    """`zeroed_copy`, where layer norms see only what is left: removal is then exact for networks with them too."""
    quiet = zeroed_copy(model, graph, structure)
    for path, module in list(quiet.named_modules()):
        if isinstance(module, nn.LayerNorm):
            kept = kept_indices(graph, structure, f"{path}.weight")[0]
            if kept is not None:
                quiet.set_submodule(path, NormOverKept(module, kept, type(module).__name__ == "LayerNorm2d"))
    return quiet


def outputs(result: object) -> list[Tensor]:
    """The tensors that a network returns."""
    return [leaf for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def relative_difference(one: object, other: object) -> float:
    """The largest difference, in shares of the largest value."""
    return max(
        float((a - b).detach().abs().max() / b.abs().max().clamp_min(1e-12))
        for a, b in zip(outputs(one), outputs(other), strict=True)
    )


def check_exact(model: nn.Module, graph: ModelGraph, structure: Structure, *inputs: Tensor) -> nn.Module:
    """`compact` equals the silenced dense network, and differs from the dense one; gives the compact network."""
    small = compact(model, graph, structure)
    with torch.no_grad():
        found, wanted, dense = small(*inputs), silenced(model, graph, structure)(*inputs), model(*inputs)
    assert relative_difference(found, wanted) < 1e-6
    assert relative_difference(found, dense) > 1e-9, "nothing changed: the comparison says nothing"
    return small


@contextmanager
def emptied(model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure) -> Iterator[None]:
    """The dense network, for a while without the inputs that its layers lost in the small one, and with its removed
    blocks passed by.

    Knows nothing of the roles in the graph and shares no code with `zeroed_copy`: a layer's weight that is smaller must
    be the dense one's part that `kept_indices` says, and the rest of its input dimension is zeroed; of attention layers
    the queries too.
    """
    left = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    gone = {name for block in structure.removed_blocks for name in graph.block(block).parameters}
    with ExitStack() as undo:
        for path, module in list(model.named_modules()):
            own = (*module.named_parameters(path, recurse=False), *module.named_buffers(path, recurse=False))
            lost = [(name, t) for name, t in own if name not in gone and left[name].shape != t.shape]
            for name, tensor in lost:
                kept = kept_indices(graph, structure, name)
                part = tensor.detach()
                for dim, index in enumerate(kept):
                    part = part if index is None else part.index_select(dim, torch.from_numpy(index.copy()))
                assert torch.equal(left[name].detach(), part), f"`{name}` is not the part of it that was kept"
                dim = _input_dimension(module, name.rpartition(".")[2])
                if dim is not None and kept[dim] is not None:
                    columns = np.setdiff1d(np.arange(tensor.shape[dim]), kept[dim])
                    undo.enter_context(_zeroed(tensor, dim, torch.from_numpy(columns)))
                if kept[0] is not None and _holds_queries(path, name):
                    rows = np.setdiff1d(np.arange(len(tensor) // 3), kept[0])
                    undo.enter_context(_zeroed(tensor, 0, torch.from_numpy(rows)))
            if lost and isinstance(module, nn.LayerNorm):
                kept_channels = kept_indices(graph, structure, f"{path}.weight")[0]
                norm = NormOverKept(module, kept_channels, type(module).__name__ == "LayerNorm2d")
                undo.callback(model.set_submodule, path, module)
                model.set_submodule(path, norm)
        for block in structure.removed_blocks:
            undo.enter_context(_bypassed(model, graph.block(block).replaced))
        yield


def _input_dimension(module: nn.Module, name: str) -> int | None:
    """Along which dimension a layer's weight reads its input."""
    if isinstance(module, nn.modules.conv._ConvNd) and name == "weight":
        return 0 if module.transposed else 1
    if (isinstance(module, nn.Linear) and name == "weight") or name == "in_proj_weight":
        return 1
    return None


def _holds_queries(path: str, name: str) -> bool:
    """Whether the first third of a tensor makes queries: where they are zero, so are their products with keys."""
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
    """The modules run as ever, but what the first was given leaves the last."""
    seen: list[Tensor] = []
    first, last = model.get_submodule(run[0]), model.get_submodule(run[-1])
    handles = [
        first.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone())),
        last.register_forward_hook(lambda *_: seen.pop()),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
