"""Every criterion against its formula, written here from the papers, on plain, coupled, masked and attention networks.

The formulas run the dense network with its masked weights set to zero, and name its layers by hand: they use neither
the model graph nor the code under test.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from criteria_helpers import make_subject, random_batches, trace_module, with_random_batch_norms
from torch import Tensor, nn
from torch.func import functional_call, grad, replace_all_batch_norm_modules_
from torch.nn import functional as F

from tickdsl.graph.structure import Structure
from tickdsl.pruning.criteria import ScoringContext, get_criterion

IMAGES = 12


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, stride=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean((2, 3)))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(5, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm_b(self.b(F.relu(self.norm_a(self.a(x))))))


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5)
        self.one, self.two = Block(), Block()
        self.head = nn.Linear(5, 3)

    def features(self, x: Tensor, without: str = "") -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for name in ("one", "two"):
            x = x if name == without else self.get_submodule(name)(x)
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.proj = nn.Linear(8, 8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.head = nn.Linear(8, 10), nn.Linear(10, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(0, 1))
        q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.relu(self.up(x)))
        return self.head(x.mean(1))  # type: ignore[no-any-return]


@attrs.frozen
class Units:
    """Units that go together: the layers that compute them, those that read them, and where their maps are seen."""

    producers: tuple[str, ...]
    readers: tuple[str, ...]
    seen: tuple[str, ...] = ()


PLAIN = (Units(("first",), ("second",), ("first",)), Units(("second",), ("head",), ("second",)))
COUPLED = (
    Units(("stem", "one.b", "two.b"), ("one.a", "two.a", "head"), ("norm", "one.norm_b", "two.norm_b")),
    Units(("one.a",), ("one.b",), ("one.norm_a",)),
    Units(("two.a",), ("two.b",), ("two.norm_a",)),
)
ATTENTION = (Units(("embed", "proj", "down"), ("qkv", "up", "head")), Units(("up",), ("down",)))


@attrs.frozen
class Case:
    """A network with masked weights zero, and the context that the criteria get."""

    module: Any
    units: tuple[Units, ...]
    context: ScoringContext
    kind: str = "filters"

    @property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        return list(self.context.batches(None))  # type: ignore[arg-type]

    @property
    def weights(self) -> dict[str, Tensor]:
        return {f"{name}.weight": m.weight for name, m in self.module.named_modules() if hasattr(m, "in_channels") or
                isinstance(m, nn.Linear)}  # fmt: skip


@functools.cache
def case(name: str, trained: bool = True) -> Case:
    kinds: dict[str, tuple[Callable[[], nn.Module], tuple[Units, ...], str]] = {
        "plain": (Plain, PLAIN, "filters"),
        "coupled": (Coupled, COUPLED, "filters"),
        "masked": (Coupled, COUPLED, "filters"),
        "attention": (Attention, ATTENTION, "neurons"),
    }
    build, units, kind = kinds[name]
    torch.manual_seed(5)
    module = build()
    graph = trace_module(module)
    module = (with_random_batch_norms(module) if trained else module).double()
    structure = Structure.dense(graph)
    if name == "masked":
        masks = {n: (torch.rand(graph.parameters[n]) < 0.6).numpy() for n in graph.weights}
        structure = structure.with_masks(masks)
    batches = random_batches(IMAGES, classes=3, dtype=torch.float64, batches=3)
    context = make_subject(module, graph, structure, batches)
    masked = copy.deepcopy(module).eval()
    with torch.no_grad():
        for n, mask in structure.masks.items():
            masked.get_parameter(n).mul_(torch.from_numpy(mask.copy()))
    return Case(masked, units, context, kind)


NETWORKS = ["plain", "coupled", "masked", "attention"]


def _loss(module: nn.Module, weights: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], t: float) -> Tensor:
    count = sum(len(labels) for _, labels in batches)
    losses = [F.cross_entropy(functional_call(module, weights, (x,)) / t, y) * len(y) / count for x, y in batches]
    return torch.stack(losses).sum()


def _batch_mode(module: nn.Module) -> nn.Module:
    return replace_all_batch_norm_modules_(copy.deepcopy(module))  # without running statistics


def snip(found: Case) -> dict[str, Tensor]:
    first = grad(lambda w: _loss(found.module, w, found.batches, 1.0))(_detached(found))
    return {name: (found.weights[name] * g).abs() for name, g in first.items()}


def snip_at_init(found: Case) -> dict[str, Tensor]:
    first = grad(lambda w: _loss(_batch_mode(found.module), w, found.batches, 1.0))(_detached(found))
    return {name: (found.weights[name] * g).abs() for name, g in first.items()}


def _grasp(found: Case, batches: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    module = _batch_mode(found.module)
    weights = _detached(found)
    slope = grad(lambda w: _loss(module, w, batches, 200.0))
    gradient = slope(weights)
    step = 1e-5 / torch.stack([g.norm() for g in gradient.values()]).norm()
    ahead, back = (slope({n: w + sign * step * gradient[n] for n, w in weights.items()}) for sign in (1, -1))
    return {n: w * (ahead[n] - back[n]) / (2 * step) for n, w in weights.items()}


def grasp(found: Case) -> dict[str, Tensor]:
    return _grasp(found, found.batches)


def grasp_halves(found: Case) -> dict[str, Tensor]:
    images, labels = (torch.cat(parts) for parts in zip(*found.batches, strict=True))
    by_class = [i for label in range(3) for i in range(IMAGES) if labels[i] == label]
    halves = [by_class[: IMAGES // 2], by_class[IMAGES // 2 :]]
    return _grasp(found, [(images[half], labels[half]) for half in halves])


def synflow(found: Case) -> dict[str, Tensor]:
    module = copy.deepcopy(found.module)
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.abs()
    weights = {name: w.abs() for name, w in _detached(found).items()}
    ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    first = grad(lambda w: functional_call(module, w, (ones,)).sum())(weights)
    return {name: (weights[name] * g).abs() for name, g in first.items()}


def taylor(found: Case) -> dict[str, Tensor]:
    squares = []
    for batch in found.batches:
        first = grad(lambda w, batch=batch: _loss(found.module, w, [batch], 1.0))(_detached(found))
        squares.append({name: (found.weights[name] * g) ** 2 for name, g in first.items()})
    return {name: torch.stack([square[name] for square in squares]).mean(0) for name in found.weights}


def assert_scores(scores: Tensor, expected: Tensor, by: str) -> None:
    """Second derivatives are differences of first ones here, so they are less exact."""
    relative = 1e-5 if by.startswith("grasp") else 1e-8
    expected = expected.detach()
    torch.testing.assert_close(scores, expected, rtol=relative, atol=relative * float(expected.abs().max()))


def _detached(found: Case) -> dict[str, Tensor]:
    return {name: w.detach() for name, w in found.weights.items()}


SALIENCIES = {"snip": snip, "grasp": grasp, "grasp-halves": grasp_halves, "synflow": synflow, "taylor": taylor}
AT_INIT = {"snip": snip_at_init, "grasp": grasp}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("by", [*SALIENCIES, "magnitude"])
def test_scores_of_weights(by: str, network: str) -> None:
    found = case(network)
    names = list(found.weights)
    expected = SALIENCIES[by](found) if by in SALIENCIES else {n: w.abs() for n, w in found.weights.items()}
    for name, scores in zip(names, get_criterion(by).weights(found.context, names), strict=True):
        assert_scores(scores, expected[name].flatten(), by)


@pytest.mark.parametrize("by", AT_INIT)
def test_scores_of_an_untrained_network_use_batch_statistics(by: str) -> None:
    found = case("coupled", trained=False)
    names = list(found.weights)
    expected = AT_INIT[by](found)
    for name, scores in zip(names, get_criterion(by).weights(found.context, names), strict=True):
        assert_scores(scores, expected[name].flatten(), by)


def _norms(weight: Tensor) -> dict[str, Tensor]:
    rows = weight.detach().flatten(1)
    apart = torch.stack([torch.stack([(a - b).square().sum().sqrt() for b in rows]) for a in rows])
    return {
        "magnitude": rows.abs().mean(1),
        "l1": rows.abs().sum(1),
        "l2": rows.square().sum(1).sqrt(),
        "fpgm": apart.sum(1) / (len(rows) - 1),
    }


def _channels(found: Case, by: str) -> list[Tensor]:
    """The scores that the criterion gives to the units, in the order of the case."""
    by_producers = {frozenset(group.producers): group for group in found.context.graph.channels}
    groups = [by_producers[frozenset(units.producers)] for units in found.units]
    return get_criterion(by).channels(found.context, groups)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("by", ["magnitude", "l1", "l2", "fpgm", "snip", "grasp", "grasp-halves", "synflow"])
def test_scores_of_filters_and_neurons(by: str, network: str) -> None:
    found = case(network)
    saliency = SALIENCIES[by](found) if by in SALIENCIES else {}
    for units, scores in zip(found.units, _channels(found, by), strict=True):
        weights = [f"{path}.weight" for path in units.producers]
        if saliency:
            rows = [saliency[name].detach().flatten(1).sum(1) for name in weights]
        else:
            rows = [_norms(found.weights[name])[by] for name in weights]
        assert_scores(scores, torch.stack(rows).mean(0), by)


@pytest.mark.parametrize("network", NETWORKS)
def test_taylor_is_the_squared_slope_along_a_gate(network: str) -> None:
    found = case(network)
    for units, scores in zip(found.units, _channels(found, "taylor"), strict=True):
        slopes = []
        for batch in found.batches:

            def gated(gate: Tensor, units: Units = units, batch: tuple[Tensor, Tensor] = batch) -> Tensor:
                weights = _detached(found)
                for path in units.readers:
                    weight = weights[f"{path}.weight"]
                    weights[f"{path}.weight"] = weight * gate.view(1, -1, *[1] * (weight.ndim - 2))
                return _loss(found.module, weights, [batch], 1.0)

            slopes.append(grad(gated)(torch.ones(len(scores), dtype=torch.float64)) ** 2)
        torch.testing.assert_close(scores, torch.stack(slopes).mean(0), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("network", ["plain", "coupled", "masked"])
def test_hrank_is_the_mean_rank_of_the_maps(network: str) -> None:
    found = case(network)
    outputs: dict[str, list[Tensor]] = {}
    handles = [
        found.module.get_submodule(path).register_forward_hook(
            lambda _, args, out, path=path: outputs.setdefault(path, []).append(out.clamp(min=0))
        )
        for units in found.units
        for path in units.seen
    ]
    with torch.no_grad():
        for images, _ in found.batches:
            found.module(images)
    for handle in handles:
        handle.remove()
    for units, scores in zip(found.units, _channels(found, "hrank"), strict=True):
        means = []
        for path in units.seen:
            maps = torch.cat(outputs[path])
            singular = torch.linalg.svdvals(maps)
            threshold = singular[..., :1] * max(maps.shape[2:]) * torch.finfo(torch.float64).eps
            means.append((singular > threshold).double().sum(-1).mean(0) / max(maps.shape[2:]))
        torch.testing.assert_close(scores, torch.stack(means).mean(0), rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("network", ["coupled", "masked"])
def test_cka_compares_the_features_with_and_without_a_layer(network: str) -> None:
    found = case(network)
    images = torch.cat([images for images, _ in found.batches])
    centring = torch.eye(IMAGES, dtype=torch.float64) - 1 / IMAGES

    def hsic(x: Tensor, y: Tensor) -> Tensor:
        return torch.trace(x @ x.T @ centring @ y @ y.T @ centring)

    expected = []
    with torch.no_grad():
        whole = found.module.features(images)
        for name in ("one", "two"):
            without = found.module.features(images, without=name)
            expected.append(1 - hsic(whole, without) / (hsic(whole, whole) * hsic(without, without)).sqrt())
    layers = [found.context.graph.block(name) for name in ("one", "two")]
    scores = get_criterion("cka").layers(found.context, layers)
    torch.testing.assert_close(scores, torch.stack(expected), rtol=1e-8, atol=1e-12)
