"""Criteria on networks that read tokens: synaptic flow, activations of sequences, and distances per token."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest
import torch
from criteria_helpers import make_subject
from hypothesis import given, settings
from hypothesis import strategies as st
from text_data import corpus, network_for, sentences
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph import trace
from tickdsl.pruning.criteria import CRITERIA, Batch, ScoringContext, get_criterion
from tickdsl.pruning.criteria.shared_batches import unshared
from tickdsl.pruning.scope import GROUP_KINDS
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.example_inputs import example_inputs

DATA = [pytest.param(corpus, id="gpt"), pytest.param(sentences, id="bert")]


def batches(data: Dataset) -> list[Batch]:
    inputs, targets = data.train_inputs[:24].long(), data.train_targets[:24]
    return list(zip(inputs.split(10), targets.split(10), strict=True))


def context_of(module: nn.Module, data: Dataset) -> ScoringContext:
    graph = trace(module, (example_inputs(2, data.shape),))
    context = make_subject(module, graph, batches=batches(data), shape=data.shape)  # type: ignore[arg-type]
    before = network_for(data, 9, layers=2).state_dict()
    return attrs.evolve(context, loss=data.task.loss, logits=data.task.has_logits, origin=before)


def finite(scores: Sequence[Tensor]) -> bool:
    return all(bool(score.isfinite().all()) and score.dtype == torch.float64 for score in scores)


@pytest.mark.parametrize("make", DATA)
@pytest.mark.parametrize(
    "name", [name for name in CRITERIA if name not in ("grasp-halves", "hrank", "bn-scale", "movement")]
)
def test_every_criterion_ranks_the_units_of_networks_on_tokens(name: str, make) -> None:
    data = make()
    criterion, context = get_criterion(name), context_of(network_for(data, layers=2), data)
    graph = context.graph
    if "weights" in criterion.units:
        names = list(graph.weights)
        scores = criterion.weights(context, names)
        assert finite(scores)
        assert [len(score) for score in scores] == [torch.Size(graph.parameters[one]).numel() for one in names]
    for unit in {"neurons", "heads", "head-dims"}.intersection(criterion.units):
        groups = [group for group in graph.channels if group.reason is None and group.kind == GROUP_KINDS[unit]]
        assert groups
        assert finite(scores := criterion.channels(context, groups))
        assert [len(score) for score in scores] == [group.size for group in groups]
    if "layers" in criterion.units:
        scores = [criterion.layers(context, graph.layers)]
        assert finite(scores) and scores[0].unique().numel() > 1


def test_synaptic_flow_reads_the_sum_of_all_embeddings() -> None:
    """On a network without norms: the flow is a product of absolute weights."""

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(5, 4), nn.Embedding(3, 4)
            self.head = nn.Linear(4, 2, bias=False)

        def forward(self, tokens: Tensor) -> Tensor:
            y: Tensor = self.head((self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))).sum(1))
            return y

    torch.manual_seed(0)
    module = Bag()
    graph = trace(module, (torch.zeros(2, 3, dtype=torch.long),))
    context = make_subject(module, graph, shape=(3, 5))  # type: ignore[arg-type]
    tokens, places, head = get_criterion("synflow").weights(context, ["tokens.weight", "places.weight", "head.weight"])
    weight = {name: tensor.double().abs() for name, tensor in module.state_dict().items()}
    onward = weight["head.weight"].sum(0)
    torch.testing.assert_close(tokens.view(5, 4), 3 * weight["tokens.weight"] * onward)
    torch.testing.assert_close(places.view(3, 4), weight["places.weight"] * onward)
    inward = 3 * weight["tokens.weight"].sum(0) + weight["places.weight"].sum(0)
    torch.testing.assert_close(head.view(2, 4), weight["head.weight"] * inward)


def test_synaptic_flow_needs_an_embedding() -> None:
    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            y: Tensor = self.head(nn.functional.one_hot(tokens, 5).to(self.head.weight.dtype).mean(1))
            return y

    module = OneHot()
    context = make_subject(module, trace(module, (torch.zeros(2, 3, dtype=torch.long),)), shape=(3, 5))  # type: ignore[arg-type]
    with pytest.raises(TickdslError, match=r"no `nn.Embedding` of the network reads them"):
        get_criterion("synflow").weights(context, ["head.weight"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 5), st.integers(2, 7))
def test_the_divergence_of_sequences_is_that_of_their_tokens(
    seed: int, count: int, length: int, vocabulary: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    whole, without = (torch.randn(count, length, vocabulary, generator=draw).log_softmax(-1) for _ in range(2))
    kl = get_criterion("kl")
    measured = kl.distance(whole.flatten(0, 1), without.flatten(0, 1), unshared([]))  # type: ignore[attr-defined]
    expected = [
        torch.distributions.kl_divergence(
            *(torch.distributions.Categorical(logits=one[n, t]) for one in (without, whole))
        )
        for n in range(count)
        for t in range(length)
    ]
    assert float(measured) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4, abs=1e-6)


def test_halves_of_classes_are_refused_for_tokens() -> None:
    context = context_of(network_for(corpus()), corpus())
    with pytest.raises(TickdslError, match="`by grasp-halves` halves the classes"):
        get_criterion("grasp-halves").weights(context, ["head.weight"])


def test_the_rank_of_feature_maps_is_refused() -> None:
    context = context_of(network_for(corpus()), corpus())
    with pytest.raises(TickdslError, match="`by hrank` needs feature maps"):
        get_criterion("hrank").layers(context, context.graph.layers)
