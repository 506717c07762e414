"""FPGM, HRank, expected absolute activation, CKA and KL, compared with brute force; the table of criteria."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from criteria_helpers import catalogue_model, make_subject, random_batches, with_random_batch_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.lang import registries
from tickdsl.pruning.criteria import CRITERIA, Criterion, ScoringContext, get_criterion
from tickdsl.pruning.criteria.similarity import linear_cka
from tickdsl.pruning.selection import prune


def test_the_language_and_the_criteria_agree() -> None:
    assert {name: (criterion.units, criterion.needs) for name, criterion in CRITERIA.items()} == {
        name: (declared.units, declared.needs) for name, declared in registries.CRITERIA.items()
    }


def test_a_custom_criterion_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Last(Criterion):
        """Removes the last layers first."""

        name = "last"
        units = ("layers",)

        def layers(self, subject: ScoringContext, blocks: object) -> Tensor:
            return -torch.arange(1, len(subject.graph.layers) + 1, dtype=torch.float64)

    module, graph = catalogue_model("resnet20", width=0.25)
    monkeypatch.setitem(CRITERIA, "last", Last())
    pruned = prune(make_subject(module, graph), {"unit": "layers", "scope": "global", "by": "last", "count": 2})
    assert pruned.removed_blocks == {block.name for block in graph.layers[-2:]}
    with pytest.raises(TickdslError, match="cannot rank filters"):
        prune(make_subject(module, graph), {"unit": "filters", "scope": "global", "by": "last", "count": 2})


@pytest.mark.parametrize("name", ["small-cnn", "resnet20", "lenet-300-100"])
def test_fpgm_is_the_mean_distance_to_the_others(name: str) -> None:
    module, graph = catalogue_model(name, **({} if name == "small-cnn" else {"width": 0.25}))
    for group in graph.channels:
        (result,) = get_criterion("fpgm").channels(make_subject(module, graph), [group])
        expected = np.zeros(group.size)
        for path in group.producers:
            filters = module.get_submodule(path).weight.detach().double().numpy()
            for one in range(group.size):
                total = 0.0
                for other in range(group.size):
                    total += math.sqrt(((filters[one] - filters[other]) ** 2).sum())
                expected[one] += total / (group.size - 1) / len(group.producers)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9)


def test_fpgm_removes_the_most_redundant_filter() -> None:
    """Filters on a line: the one with the smallest total distance is removed first."""
    module, graph = catalogue_model("small-cnn")
    weight = module.get_submodule("conv1").weight
    with torch.no_grad():
        weight.zero_()
        weight[:, 0, 0, 0] = torch.arange(16, dtype=torch.float32) ** 3
    step = {"unit": "filters", "scope": "local", "by": "fpgm", "count": 1, "within": ["conv1"]}
    pruned = prune(make_subject(module, graph), step)
    distances = [sum(abs(i**3 - j**3) for j in range(16)) for i in range(16)]
    assert set(range(16)) - set(pruned.kept["conv1"].tolist()) == {int(np.argmin(distances))}


def maps_of(module: nn.Module, upto: str, images: Tensor) -> np.ndarray:
    """The output of a layer of a sequential network."""
    with torch.no_grad():
        for name, layer in module.eval().named_children():
            images = layer(images)
            if name == upto:
                return images.numpy()
    raise AssertionError(upto)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_hrank_is_the_mean_matrix_rank(number: int) -> None:
    module, graph = catalogue_model("small-cnn")
    with_random_batch_norms(module)
    shown = random_batches(30, batches=2)
    (result,) = get_criterion("hrank").channels(
        make_subject(module, graph, batches=shown), [graph.group(f"conv{number}")]
    )
    maps = maps_of(module, f"relu{number}", torch.cat([images for images, _ in shown]))
    expected = [
        np.mean([np.linalg.matrix_rank(image) for image in maps[:, channel]]) for channel in range(maps.shape[1])
    ]
    np.testing.assert_allclose(result.numpy(), np.array(expected) / maps.shape[2], rtol=1e-12)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_expected_abs_is_the_mean_activation(number: int) -> None:
    module, graph = catalogue_model("small-cnn")
    with_random_batch_norms(module)
    shown = random_batches(30, batches=2)
    (result,) = get_criterion("expected-abs").channels(
        make_subject(module, graph, batches=shown), [graph.group(f"conv{number}")]
    )
    maps = maps_of(module, f"relu{number}", torch.cat([images for images, _ in shown]))
    np.testing.assert_allclose(result.numpy(), np.abs(maps.astype(np.float64)).mean((0, 2, 3)), rtol=1e-6)


def test_expected_abs_of_neurons() -> None:
    module, graph = catalogue_model("lenet-300-100", width=0.2)
    shown = random_batches(30)
    (result,) = get_criterion("expected-abs").channels(make_subject(module, graph, batches=shown), [graph.group("fc1")])
    with torch.no_grad():
        expected = torch.relu(module.get_submodule("fc1")(shown[0][0].flatten(1))).double().mean(0)
    torch.testing.assert_close(result, expected)


def test_layers_are_scored_by_their_outputs() -> None:
    """Blocks of a residual network are scored by the mean over the channels of their outputs."""
    module, graph = catalogue_model("resnet20", width=0.25)
    with_random_batch_norms(module)
    shown = random_batches(12)
    context = make_subject(module, graph, batches=shown)
    absolute, rank = (get_criterion(by).layers(context, graph.layers) for by in ("expected-abs", "hrank"))
    outputs: dict[str, Tensor] = {}
    for block in graph.layers:
        module.get_submodule(block.name).register_forward_hook(
            lambda _, __, output, name=block.name: outputs.update({name: output.detach()})
        )
    with torch.no_grad():
        module.eval()(shown[0][0])
    for index, block in enumerate(graph.layers):
        maps = outputs[block.name].numpy()
        assert float(absolute[index]) == pytest.approx(float(np.abs(maps).mean(dtype=np.float64)), rel=1e-6)
        expected = np.linalg.matrix_rank(maps).mean() / maps.shape[2]
        assert float(rank[index]) == pytest.approx(expected)


def test_hrank_of_coupled_layers_is_the_mean_over_them() -> None:
    module, graph = catalogue_model("resnet20", width=0.25)
    with_random_batch_norms(module)
    shown = random_batches(12)
    group = graph.group("conv1")
    (result,) = get_criterion("hrank").channels(make_subject(module, graph, batches=shown), [group])
    outputs: list[np.ndarray] = []
    norms = ["bn1", "layer1.0.bn2", "layer1.1.bn2", "layer1.2.bn2"]
    for path in norms:
        module.get_submodule(path).register_forward_hook(
            lambda _, __, output: outputs.append(output.detach().clamp(min=0).numpy())
        )
    with torch.no_grad():
        module.eval()(shown[0][0])
    expected = np.mean([np.linalg.matrix_rank(maps).mean(0) / 8 for maps in outputs], axis=0)
    np.testing.assert_allclose(result.numpy(), expected)


features = st.tuples(st.integers(3, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))


@given(features)
@settings(max_examples=50, deadline=None)
def test_cka_is_invariant_where_representations_are_alike(drawn: tuple[int, int, int, int]) -> None:
    """Invariant to rotations, scaling and shifts; symmetric; 1 with itself; equal to CKA of centred kernel matrices."""
    count, one, other, seed = drawn
    stream = torch.Generator().manual_seed(seed)
    x = torch.randn(count, one, generator=stream, dtype=torch.float64)
    y = torch.randn(count, other, generator=stream, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(one, one, generator=stream, dtype=torch.float64)).Q
    value = linear_cka(x, y)
    assert 0 <= float(value) <= 1 + 1e-12
    torch.testing.assert_close(linear_cka(3 * x @ rotation + 7, y), value)
    torch.testing.assert_close(linear_cka(y, x), value)
    torch.testing.assert_close(linear_cka(x, -2 * x @ rotation), torch.ones((), dtype=torch.float64))
    centring = np.eye(count) - 1 / count
    k, m = (centring @ (f.numpy() @ f.numpy().T) @ centring for f in (x, y))
    expected = np.trace(k @ m) / math.sqrt(np.trace(k @ k) * np.trace(m @ m))
    assert float(value) == pytest.approx(expected, rel=1e-9)


def test_cka_is_not_invariant_to_what_changes_a_representation() -> None:
    stream = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, generator=stream, dtype=torch.float64)
    stretched = x * torch.tensor([10.0, 1, 1, 1, 1], dtype=torch.float64)
    assert float(linear_cka(x, stretched)) < 0.9
    assert float(linear_cka(x, torch.ones(40, 3, dtype=torch.float64))) == 0


def silent_block(module: nn.Module, path: str) -> None:
    with torch.no_grad():
        module.get_submodule(f"{path}.bn2").weight.zero_()
        module.get_submodule(f"{path}.bn2").bias.zero_()


@pytest.mark.parametrize("by", ["cka", "kl"])
def test_a_block_that_adds_nothing_is_removed_first(by: str) -> None:
    module, graph = catalogue_model("resnet20", width=0.25)
    with_random_batch_norms(module)
    silent_block(module, "layer2.1")
    context = make_subject(module, graph, batches=random_batches(40, batches=2))
    scores = dict(
        zip([b.name for b in graph.layers], get_criterion(by).layers(context, graph.layers).tolist(), strict=True)
    )
    assert abs(scores["layer2.1"]) < 1e-6
    assert all(score > 1e-4 for name, score in scores.items() if name != "layer2.1")
    pruned = prune(context, {"unit": "layers", "scope": "global", "by": by, "count": 1})
    assert pruned.removed_blocks == {"layer2.1"}


@pytest.mark.parametrize("by", ["cka", "kl"])
def test_a_bypassed_block_is_one_whose_last_batch_norm_is_zero(by: str) -> None:
    """Jordao et al. zero it, which turns a residual block into an identity."""
    module, graph = catalogue_model("resnet20", width=0.25)
    with_random_batch_norms(module)
    shown = random_batches(40)
    scores = get_criterion(by).layers(make_subject(module, graph, batches=shown), graph.layers)
    for block, score in zip(graph.layers, scores, strict=True):
        outputs_by_network = []
        for silent in (False, True):
            other, _ = catalogue_model("resnet20", width=0.25)
            with_random_batch_norms(other)
            if silent:
                silent_block(other, block.name)
            features: list[Tensor] = []
            other.get_submodule("fc").register_forward_pre_hook(lambda _, args, kept=features: kept.append(args[0]))
            with torch.no_grad():
                logits = other.eval()(shown[0][0])
            outputs_by_network.append(features[0].double() if by == "cka" else torch.softmax(logits.double(), 1))
        if by == "cka":
            expected = 1 - linear_cka(*outputs_by_network)
        else:
            p, q = outputs_by_network
            expected = (q * (q.log() - p.log())).sum(1).mean()
        assert float(score) == pytest.approx(float(expected), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("by", ["fpgm", "hrank", "expected-abs", "snip", "grasp", "synflow", "taylor"])
def test_filters_of_a_network_that_lost_filters_and_layers(by: str) -> None:
    """Further rounds on a pruned network remove the right counts, and the network still runs."""
    module, graph = catalogue_model("resnet20", width=0.5)
    with_random_batch_norms(module)
    shown = random_batches(20)
    structure = Structure.dense(graph)
    for step in (
        {"unit": "layers", "scope": "global", "by": "random", "count": 2},
        {"unit": "filters", "scope": "global", "by": by, "share": 0.3},
        {"unit": "filters", "scope": "local", "by": by, "share": 0.3},
    ):
        structure = prune(make_subject(module, graph, structure, shown), step)
    small = make_subject(module, graph, structure).network(structure)
    assert sum(p.numel() for p in small.parameters()) < 0.5 * sum(p.numel() for p in module.parameters())
    assert small.eval()(shown[0][0]).shape == (20, 10)


@pytest.mark.parametrize("by", ["snip", "grasp", "hrank", "expected-abs", "cka", "kl"])
def test_layers_of_a_network_that_lost_filters(by: str) -> None:
    module, graph = catalogue_model("resnet20", width=0.5)
    with_random_batch_norms(module)
    structure = Structure.dense(graph)
    for step in (
        {"unit": "filters", "scope": "global", "by": "l2", "share": 0.3},
        {"unit": "layers", "scope": "global", "by": by, "count": 2},
        {"unit": "layers", "scope": "global", "by": by, "count": 1},
    ):
        structure = prune(make_subject(module, graph, structure, random_batches(20)), step)
    assert len(structure.removed_blocks) == 3
