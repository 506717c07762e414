"""Pruned attention heads and head dimensions, compared with a direct implementation of attention."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from graph_networks import Attention, AttentionNetwork, TorchAttention
from graph_oracle import check_exact, make_weights_distinct, random_thinning, relative_difference, zeroed_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.graph import ModelGraph, Structure, StructureError, compact, cost, slice_state_dict, trace, zeroed_copy
from tickdsl.training.torchvision_import import import_torchvision

models = import_torchvision().models
Masks = tuple[Tensor, Tensor, Tensor]


def attend(q: Tensor, k: Tensor, v: Tensor, masks: Masks, scale: float, bias: Tensor | float = 0.0) -> Tensor:
    """Attention over `[batch, heads, length, dims]`, with masked heads and dims set to zero.

    `masks` are those of heads, of dims of queries and keys, and of dims of values.
    """
    heads, inner, outer = masks
    scores = torch.einsum("bhid,bhjd,d->bhij", q, k, inner.to(q.dtype)) * scale + bias
    return torch.einsum("bhij,bhjd,h,d->bhid", scores.softmax(-1), v, heads.to(q.dtype), outer.to(q.dtype))


class Reference(nn.Module):
    """The dense `AttentionNetwork`, written out, with masked heads and dims."""

    def __init__(self, network: AttentionNetwork, masks: Masks) -> None:
        super().__init__()
        self.network, self.masks = network, masks

    def forward(self, x: Tensor) -> Tensor:
        x = self.network.embed(x)
        layer = self.network.attention
        q, k, v = layer.split(x)
        q = F.elu(q) + 1 if layer.style == "shifted" else q
        y = attend(q, k, v, self.masks, layer.dims**-0.5, layer.table if layer.style == "relative" else 0.0)
        if layer.style == "gated":
            y = y * layer.gate(x).sigmoid().transpose(1, 2)[..., None]
        return self.network.head(F.relu(x + layer.proj(y.transpose(1, 2).flatten(2))))


def network(style: str) -> tuple[nn.Module, ModelGraph, Tensor]:
    torch.manual_seed(0)
    model = make_weights_distinct(AttentionNetwork(style).double()).eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    return model, ModelGraph.from_json(trace(model, x).to_json()), x


STYLES = ("separate", "fused", "head-major", "einsum", "grouped-query", "relative", "gated", "shifted", "added")
CASES = {style: network(style) for style in STYLES}
KEPT = st.sets(st.integers(0, 3), min_size=1)


def mask(kept: set[int]) -> Tensor:
    return torch.tensor([index in kept for index in range(4)])


def groups(graph: ModelGraph, style: str) -> dict[str, str]:
    """The names of the attention layer's groups: heads, and dims by kind."""
    heads = [group.name for group in graph.channels if group.kind == "heads"]
    dims = {group.name.rpartition(":")[2]: group.name for group in graph.channels if group.kind == "head-dims"}
    assert len(heads) == 1
    assert set(dims) == ({"head-dims"} if style in ("fused", "relative", "gated") else {"qk-dims", "v-dims"})
    return {"heads": heads[0], **dims}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STYLES), KEPT, KEPT, KEPT)
def test_pruned_attention_matches_the_reference(style: str, heads: set, inner: set, outer: set) -> None:
    model, graph, x = CASES[style]
    names = groups(graph, style)
    if "head-dims" in names:
        outer = inner
    if style == "grouped-query":  # two heads share keys and values: they go together
        heads = {2 * index + offset for index in {head // 2 for head in heads} for offset in (0, 1)}
    structure = Structure.dense(graph)
    for group, kept in (("heads", heads), ("qk-dims", inner), ("v-dims", outer), ("head-dims", inner)):
        if group in names:
            heads_per_unit = 2 if style == "grouped-query" and group == "heads" else 1
            removed = {index // heads_per_unit for index in set(range(4)) - kept}
            structure = structure.remove(names[group], removed)
    small = compact(model, graph, structure)
    reference = Reference(model, (mask(heads), mask(inner), mask(outer)))
    runs = {}
    for name, candidate in (
        ("small", small),
        ("reference", reference),
        ("zeroed", zeroed_copy(model, graph, structure)),
    ):
        data = x.clone().requires_grad_()
        result = candidate(data)
        parameters = dict((model if candidate is reference else candidate).named_parameters())
        gradients = torch.autograd.grad(result.square().sum(), [data, *parameters.values()])
        runs[name] = result, gradients[0], dict(zip(parameters, gradients[1:], strict=True))
    floor = max(float(gradient.abs().max()) for gradient in runs["reference"][2].values())
    for name in ("reference", "zeroed"):
        assert relative_difference(runs["small"][0], runs[name][0]) < 1e-9
        assert relative_difference(runs["small"][1], runs[name][1]) < 1e-9
        kept = slice_state_dict(graph, runs[name][2], Structure.dense(graph), structure)
        for parameter, gradient in runs["small"][2].items():
            assert float((gradient - kept[parameter]).abs().max()) < 1e-9 * floor
    if inner != set(range(4)):
        assert relative_difference(runs["reference"][0], model(x)) > 1e-9
    assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())


def test_no_choice_empties_a_layer() -> None:
    _, graph, _ = CASES["fused"]
    names = groups(graph, "fused")
    structure = Structure.dense(graph).remove(names["heads"], [0, 1, 2]).remove(names["head-dims"], [1, 2, 3])
    assert all(kept is None or len(kept) for kept in (structure.kept[name] for name in names.values()))
    for name in names.values():
        with pytest.raises(StructureError, match="would remain"):
            structure.remove(name, range(4))
    small = compact(CASES["fused"][0], graph, structure)
    assert small.get_parameter("attention.qkv.weight").shape == (3, 10)


def reasons_by_group(model: nn.Module, *inputs: Tensor) -> dict[str, str | None]:
    return {group.name: group.reason for group in trace(model.eval(), inputs).channels}


def test_dims_with_a_scale_unknown_when_tracing_are_fixed() -> None:
    reasons = reasons_by_group(AttentionNetwork("unseen"), torch.zeros(2, 5, 6))
    assert "unknown when tracing" in (reasons["attention.query:qk-dims"] or "")
    assert reasons["attention.value:v-dims"] is None
    assert reasons["attention.query"] is None


@pytest.mark.parametrize("seed", range(4))
def test_heads_and_dims_selected_by_index_are_fixed(seed: int) -> None:
    model, graph, x = network("picked")
    sizes = {group.name: group.size for group in graph.channels if group.reason is None}
    assert sizes["attention.query"] == sizes["attention.value:v-dims"] == 3
    assert sizes["attention.query:qk-dims"] == 4
    assert not graph.group("attention.value:v-dims").exact  # a mean is taken over them
    check_exact(model, graph, random_thinning(graph, 0.5, seed, only=["attention.query", "attention.query:qk-dims"]), x)


def test_dims_that_a_window_normalises_over_are_fixed() -> None:
    torch.manual_seed(0)
    options = {"patch_size": [2, 2], "embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": [4, 4]}
    first, second = (models.swin_transformer.SwinTransformerBlock, models.swin_transformer.SwinTransformerBlockV2)
    x = torch.zeros(1, 3, 16, 16)
    plain = reasons_by_group(models.SwinTransformer(**options, block=first), x)
    assert plain["features.1.0.attn:head-dims"] is None
    merging = models.swin_transformer.PatchMergingV2
    cosine = reasons_by_group(models.SwinTransformer(**options, block=second, downsample_layer=merging), x)
    (name,) = [name for name in cosine if name.startswith("features.1.0.attn:")]
    assert "linalg_vector_norm" in (cosine[name] or "")


def cut(graph: ModelGraph, share: float, kinds: tuple[str, ...]) -> Structure:
    rng = np.random.default_rng(3)
    structure = Structure.dense(graph)
    for group in graph.channels:
        if group.kind in kinds and group.reason is None:
            count = min(int(np.ceil(share * group.size)), group.size - 1)
            structure = structure.remove(group.name, rng.choice(group.size, count, replace=False))
    return structure


class Formula(nn.Module):
    """torch's self-attention layer, written out, with masked heads and dims."""

    def __init__(self, layer: nn.MultiheadAttention, masks: Masks) -> None:
        super().__init__()
        self.layer, self.masks = layer, masks

    def forward(self, x: Tensor, *_: Tensor, need_weights: bool = True) -> tuple[Tensor, None]:
        layer = self.layer
        parts = F.linear(x, layer.in_proj_weight, layer.in_proj_bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2) for part in parts)
        y = attend(q, k, v, self.masks, layer.head_dim**-0.5)
        return layer.out_proj(y.transpose(1, 2).flatten(2)), None


@pytest.mark.parametrize("kinds", [("heads",), ("head-dims",), ("heads", "head-dims")])
def test_a_pruned_vision_transformer_matches_the_reference(kinds: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 24}
    model = make_weights_distinct(models.VisionTransformer(**sizes, num_classes=5).double()).eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    graph = trace(model, x)
    structure = cut(graph, 0.4, kinds)
    small = compact(model, graph, structure)
    reference = copy.deepcopy(model)
    for path, layer in list(reference.named_modules()):
        if isinstance(layer, nn.MultiheadAttention):
            masks = []
            for name, size in ((path, 4), (f"{path}:qk-dims", 8), (f"{path}:v-dims", 8)):
                masks.append(torch.zeros(size, dtype=torch.bool))
                masks[-1][structure.kept.get(name, np.arange(size)).copy()] = True
            reference.set_submodule(path, Formula(layer, (masks[0], masks[1], masks[2])))
    for train in (False, True):
        for candidate in (small, reference):
            candidate.train(train)
        assert relative_difference(small(x), reference(x)) < 1e-9
    assert relative_difference(reference(x), model(x)) > 1e-3
    small.eval()
    with torch.no_grad():  # torch's own layer takes its fused path here
        assert relative_difference(small(x), reference.eval()(x)) < 1e-9
    fresh = compact(copy.deepcopy(model), graph, structure)
    fresh.load_state_dict(small.state_dict())
    for other in (fresh, pickle.loads(pickle.dumps(small))):
        assert torch.equal(other(x), small(x))
    assert [name for name, _ in small.named_modules()] == [name for name, _ in model.named_modules()]


def test_a_compact_attention_layer_can_be_made_smaller_again() -> None:
    torch.manual_seed(0)
    model = make_weights_distinct(TorchAttention().double()).eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    graph = trace(model, x)
    kinds = ("heads", "head-dims")
    pruned_once = compact(model, graph, cut(graph, 0.3, kinds))
    second_graph = trace(pruned_once, x)
    structure = cut(second_graph, 0.3, kinds)
    assert structure.kept
    pruned_twice = compact(pruned_once, second_graph, structure)
    assert relative_difference(pruned_twice(x), zeroed_reference(pruned_once, second_graph, structure)(x)) < 1e-9
    assert relative_difference(pruned_twice(x), pruned_once(x)) > 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_attention_without_some_dims_exports(style: str) -> None:
    model, graph, x = CASES[style]
    small = compact(model, graph, cut(graph, 0.4, ("heads", "head-dims")))
    assert relative_difference(torch.export.export(small, (x,)).module()(x), small(x)) < 1e-9


def test_the_reference_matches_the_dense_attention_layers() -> None:
    """The written-out reference computes the same as the dense network."""
    for model, _, x in CASES.values():
        all_kept = torch.ones(4, dtype=torch.bool)
        assert isinstance(model.attention, Attention)
        assert relative_difference(Reference(model, (all_kept, all_kept, all_kept))(x), model(x)) < 1e-12
