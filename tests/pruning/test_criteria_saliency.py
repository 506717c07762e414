"""SNIP, GraSP, SynFlow and Taylor, compared with slow reference implementations that share no code with them."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, trace_module, with_random_batch_norms
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import remaining_weights
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import zeroed_copy
from tickdsl.pruning.criteria import get_criterion
from tickdsl.pruning.selection import prune
from tickdsl.training.data.datasets import load
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.loop import train
from tickdsl.training.models import create
from tickdsl.training.recipes.recipe import Recipe


@functools.cache
def tiny() -> tuple[nn.Module, ModelGraph]:
    """A network with 33 weights in float64, for which an explicit Hessian is affordable."""
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 3, 1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3),
    )  # fmt: skip
    graph = trace_module(module)
    return module.double(), graph


def loss_of(module: nn.Module, values: dict[str, Tensor], batch: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    logits = torch.func.functional_call(module, {**dict(module.state_dict()), **values}, (batch[0],))
    return F.cross_entropy(logits / temperature, batch[1])


def test_snip_is_the_gradient_of_a_mask() -> None:
    """|dL(c * w)/dc| at c = 1, in eval mode (Lee et al. 2019, equation 5)."""
    module, graph = tiny()
    module = with_random_batch_norms(copy.deepcopy(module))
    (batch,) = random_batches(12, classes=3, dtype=torch.float64)
    weights = {name: module.state_dict()[name] for name in graph.weights}
    mask = {name: torch.ones_like(w).requires_grad_() for name, w in weights.items()}
    eval_module = copy.deepcopy(module).eval()
    loss_of(eval_module, {name: mask[name] * w for name, w in weights.items()}, batch, 1.0).backward()
    for parts in (1, 3):  # independent of the split into batches
        parts_of_batch = list(zip(batch[0].chunk(parts), batch[1].chunk(parts), strict=True))
        actual = get_criterion("snip").weights(make_subject(module, graph, batches=parts_of_batch), list(weights))
        for name, scores in zip(weights, actual, strict=True):
            torch.testing.assert_close(scores, mask[name].grad.abs().flatten(), rtol=1e-9, atol=1e-12)


def test_grasp_is_weight_times_hessian_times_gradient() -> None:
    """Computed with an explicit Hessian, and batch norm in training mode (Wang et al. 2020, equation 8)."""
    module, graph = tiny()
    (batch,) = random_batches(12, classes=3, dtype=torch.float64)
    names = list(graph.weights)
    start = torch.cat([module.state_dict()[name].flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        values, position = {}, 0
        for name in names:
            shape = graph.parameters[name]
            values[name] = flat[position : position + np.prod(shape)].view(shape)
            position += int(np.prod(shape))
        return loss_of(copy.deepcopy(module).train(), values, batch, 200.0)

    gradient = torch.autograd.functional.jacobian(loss, start)
    expected = start * (torch.autograd.functional.hessian(loss, start) @ gradient)
    actual = torch.cat(get_criterion("grasp").weights(make_subject(module, graph, batches=[batch]), names))
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-16)
    assert bool((actual < 0).any()) and bool((actual > 0).any())


def test_grasps_sign() -> None:
    """Shrinking a weight with a high score lowers the gradient norm, so it must be kept."""
    module, graph = tiny()
    (batch,) = random_batches(12, classes=3, dtype=torch.float64)
    names = list(graph.weights)
    scores = get_criterion("grasp").weights(make_subject(module, graph, batches=[batch]), names)

    def gradient_norm(changed: str, position: int, factor: float) -> float:
        values = {name: module.state_dict()[name].clone().requires_grad_() for name in names}
        with torch.no_grad():
            values[changed].view(-1)[position] *= factor
        loss = loss_of(copy.deepcopy(module).train(), values, batch, 200.0)
        return float(sum(g.square().sum() for g in torch.autograd.grad(loss, list(values.values()))))

    small = 1e-5
    for name, score in zip(names, scores, strict=True):
        position = int(score.abs().argmax())
        slope = (gradient_norm(name, position, 1 - small) - gradient_norm(name, position, 1 + small)) / (2 * small)
        assert slope == pytest.approx(-2 * float(score[position]), rel=1e-4)


def test_synflow_conserves_the_flow() -> None:
    """In a network without branches, each layer carries the whole flow (Tanaka et al. 2020, theorem 1)."""
    module, graph = catalogue_model("vgg11", (3, 32, 32), width=0.25)
    shape = (3, 32, 32)
    scores = get_criterion("synflow").weights(make_subject(module, graph, shape=shape), list(graph.weights))
    positive = copy.deepcopy(module).double().eval()
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
        flow = float(positive(torch.ones(1, *shape, dtype=torch.float64)).sum())
    for score in scores:
        assert float(score.sum()) == pytest.approx(flow, rel=1e-9)


def test_synflow_conserves_the_flow_through_every_filter() -> None:
    """Flow in equals flow out: a filter's score is the sum of the scores of the weights that read it."""
    module, graph = catalogue_model("small-cnn")
    context = make_subject(module, graph)
    scores = dict(zip(graph.weights, get_criterion("synflow").weights(context, list(graph.weights)), strict=True))
    group = graph.group("conv1")
    (incoming,) = get_criterion("synflow").channels(context, [group])
    outgoing = scores["conv2.weight"].view(graph.parameters["conv2.weight"]).sum((0, 2, 3))
    torch.testing.assert_close(incoming, outgoing, rtol=1e-9, atol=0)


def emptied(by: str, rounds: int, share: float) -> list[str]:
    """The layers that a global ranking without a minimum per layer empties."""
    shape = (3, 32, 32)
    module, graph = catalogue_model("vgg11", shape, width=0.125)
    names = list(graph.weights)
    structure = Structure.dense(graph)
    kept = {name: np.ones(graph.parameters[name], dtype=bool) for name in names}
    total = sum(mask.size for mask in kept.values())
    for index in range(rounds):
        scores = get_criterion(by).weights(
            make_subject(module, graph, structure, random_batches(100, shape=shape), shape), names
        )
        alive = torch.cat(
            [s.masked_fill(~torch.from_numpy(kept[n]).flatten(), -1) for n, s in zip(names, scores, strict=True)]
        )
        count = round(total * (1 - share) ** ((index + 1) / rounds))
        chosen = torch.zeros(total, dtype=torch.bool)
        chosen[alive.topk(count).indices] = True
        for name, part in zip(names, chosen.split([mask.size for mask in kept.values()]), strict=True):
            kept[name] = part.numpy().reshape(graph.parameters[name])
        structure = Structure.dense(graph).with_masks(kept)
    return [name for name, mask in kept.items() if not mask.any()]


def test_synflow_collapses_no_layer_where_others_do() -> None:
    """99% in 100 rounds. One round, or magnitude, empties layers (Tanaka et al. 2020, figures 1 and 6)."""
    assert emptied("synflow", 100, 0.99) == []
    assert emptied("synflow", 1, 0.999)
    assert emptied("magnitude", 1, 0.999)


def test_synflow_meets_its_target() -> None:
    module, graph = catalogue_model("vgg11", (3, 32, 32), width=0.125)
    structure = Structure.dense(graph)
    for index in range(10):
        step = {"unit": "weights", "scope": "global", "by": "synflow", "to": 1 - 0.01 ** ((index + 1) / 10)}
        structure = prune(make_subject(module, graph, structure, shape=(3, 32, 32)), step)
    counts = remaining_weights(graph, structure)
    total = sum(dense for _, dense in counts.values())
    assert sum(remaining for remaining, _ in counts.values()) == total - round(0.99 * total)


def test_zero_flow_is_an_error() -> None:
    module, graph = catalogue_model("small-cnn")
    with torch.no_grad():
        module.get_submodule("conv2").weight.zero_()
    step = {"unit": "weights", "scope": "global", "by": "synflow", "share": 0.5}
    with pytest.raises(TickdslError, match="every unit 0"):
        prune(make_subject(module, graph), step)


def test_non_finite_scores_are_an_error() -> None:
    module, graph = catalogue_model("small-cnn")
    with torch.no_grad():
        module.get_submodule("conv2").weight.fill_(torch.inf)
    step = {"unit": "weights", "scope": "global", "by": "snip", "share": 0.5}
    with pytest.raises(TickdslError, match="non-finite"):
        prune(make_subject(module, graph, batches=random_batches(8)), step)


def test_a_filters_saliency_is_that_of_its_weights() -> None:
    module, graph = catalogue_model("resnet20", width=0.25)
    context = make_subject(module, graph, batches=random_batches(40))
    for by in ("snip", "grasp"):
        scores = dict(zip(graph.weights, get_criterion(by).weights(context, list(graph.weights)), strict=True))
        coupled, alone = graph.group("conv1"), graph.group("layer1.0.conv1")
        actual = get_criterion(by).channels(context, [coupled, alone])
        per_layer = [
            scores[f"{path}.weight"].view(graph.parameters[f"{path}.weight"]).flatten(1).sum(1)
            for path in coupled.producers
        ]
        torch.testing.assert_close(actual[0], torch.stack(per_layer).mean(0))
        own = scores["layer1.0.conv1.weight"].view(graph.parameters["layer1.0.conv1.weight"])
        torch.testing.assert_close(actual[1], own.flatten(1).sum(1))


def test_a_layers_saliency_is_the_mean_of_its_weights() -> None:
    module, graph = catalogue_model("resnet20", width=0.25)
    context = make_subject(module, graph, batches=random_batches(40))
    scores = dict(zip(graph.weights, get_criterion("snip").weights(context, list(graph.weights)), strict=True))
    actual = get_criterion("snip").layers(context, graph.layers)
    for block, score in zip(graph.layers, actual, strict=True):
        inside = torch.cat([scores[f"{block.name}.conv{n}.weight"] for n in (1, 2)])
        assert float(score) == pytest.approx(float(inside.mean()))


@functools.cache
def trained() -> tuple[nn.Module, ModelGraph, tuple[tuple[Tensor, Tensor], ...]]:
    data = load("digits")
    module = create("small-cnn", classes=10, shape=data.shape, seed=1)
    graph = trace_module(module)
    train(module, data, Recipe.from_dict({"length": "12ep", "lr": 0.1, "batch": 64}), seed=1)
    return module, graph, tuple(sample_batches(data, torch.Generator().manual_seed(0), total=512, batch=128))


def test_taylor_is_the_slope_of_the_loss_along_a_gate() -> None:
    """The slope along a gate on a channel, for all weights that read it, by finite differences for each batch."""
    module, graph, batches = trained()
    module, group = copy.deepcopy(module).double().eval(), graph.group("conv2")
    parts_of_batch = [(images.double(), labels) for images, labels in batches]
    (actual,) = get_criterion("taylor").channels(make_subject(module, graph, batches=parts_of_batch), [group])
    weight = module.get_submodule("conv3").weight
    small = 1e-6  # larger steps cross kinks of the activations
    for unit in (0, 3, 17):
        squares = []
        for images, labels in parts_of_batch:
            losses = []
            for factor in (1 - small, 1 + small):
                before = weight.detach().clone()
                with torch.no_grad():
                    weight[:, unit] *= factor
                    losses.append(float(F.cross_entropy(module(images), labels)))
                    weight.copy_(before)
            squares.append(((losses[1] - losses[0]) / (2 * small)) ** 2)
        assert float(actual[unit]) == pytest.approx(np.mean(squares), rel=1e-5)


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def test_taylor_ranks_filters_as_the_loss_without_them_does() -> None:
    """Rank correlation over all filters; a first-order estimate is not exact."""
    module, graph, batches = trained()
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    groups = [group for group in graph.channels if group.reason is None]
    actual = torch.cat(get_criterion("taylor").channels(make_subject(module, graph, batches=batches), groups))
    with torch.no_grad():
        whole = F.cross_entropy(copy.deepcopy(module).eval()(images), labels)
        without = [
            zeroed_copy(module, graph, Structure.dense(graph).remove(group.name, [unit])).eval()
            for group in groups
            for unit in range(group.size)
        ]
        changes = torch.stack([(F.cross_entropy(net(images), labels) - whole).square() for net in without])
    assert float(torch.corrcoef(torch.stack([ranks(actual), ranks(changes.double())]))[0, 1]) > 0.75


def test_taylor_of_single_weights() -> None:
    module, graph = tiny()
    batches = random_batches(12, classes=3, batches=2, dtype=torch.float64)
    actual = get_criterion("taylor").weights(make_subject(module, graph, batches=batches), list(graph.weights))
    eval_module = copy.deepcopy(module).eval()
    for name, scores in zip(graph.weights, actual, strict=True):
        weight = eval_module.state_dict()[name].clone().requires_grad_()
        squares = []
        for batch in batches:
            (gradient,) = torch.autograd.grad(loss_of(eval_module, {name: weight}, batch, 1.0), weight)
            squares.append((weight * gradient).detach().square().flatten())
        torch.testing.assert_close(scores, torch.stack(squares).mean(0))


@pytest.mark.parametrize("by", ["snip", "grasp", "synflow", "taylor"])
def test_scores_match_those_of_the_compact_network(by: str) -> None:
    """A pruned network and an ordinary network of the same size and weights get the same scores."""
    module, graph = catalogue_model("small-cnn")
    with_random_batch_norms(module)
    batches = random_batches(40)
    structure = Structure.dense(graph).remove("conv2", range(0, 32, 3))
    context = make_subject(module, graph, structure, batches)
    small = context.network(structure)
    own = trace_module(small)
    other = make_subject(small, own, batches=batches)
    for one, two in zip(
        get_criterion(by).weights(context, list(graph.weights)),
        get_criterion(by).weights(other, list(own.weights)),
        strict=True,
    ):
        assert torch.equal(one, two)
