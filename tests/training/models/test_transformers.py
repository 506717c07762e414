"""GPT and BERT: what a token sees, initial weights, and removal that is exact."""

from __future__ import annotations

import copy
import functools
import math

import pytest
import torch
from graph_oracle import (
    check_exact,
    make_weights_distinct,
    random_layer_removal,
    random_thinning,
    relative_difference,
    zeroed_reference,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, Structure, compact, cost, trace
from tickdsl.graph.layer_tree import GraphView
from tickdsl.training import models
from tickdsl.training.models.transformers import PADDING

LENGTH, VOCABULARY = 7, 11
OUTPUTS = {"gpt": VOCABULARY, "bert": 3}


def create(name: str, seed: int = 0, **options: object) -> nn.Module:
    shape = (LENGTH, VOCABULARY)
    sizes = {"layers": 2, "heads": 4, "dim": 16}
    return models.create(name, classes=OUTPUTS[name], shape=shape, seed=seed, options={**sizes, **options})


def tokens(count: int = 3, length: int = LENGTH, seed: int = 0) -> Tensor:
    return torch.randint(1, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


@functools.cache
def traced(name: str) -> tuple[nn.Module, ModelGraph]:
    """A network in double precision whose values are all distinct, and its graph."""
    model = make_weights_distinct(create(name).double()).eval()
    return model, trace(model, tokens())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, LENGTH - 1), st.sampled_from([0.0, 0.4]))
def test_a_later_token_never_changes_an_earlier_logit(seed: int, place: int, share: float) -> None:
    model, graph = traced("gpt")
    network = compact(model, graph, random_thinning(graph, share, seed)) if share else model
    before = tokens(seed=seed)
    after = before.clone()
    after[:, place:] = tokens(length=LENGTH - place, seed=seed + 1)
    with torch.no_grad():
        first, second = network(before), network(after)
        assert torch.equal(first[:, :place], second[:, :place])
        torch.testing.assert_close(network(before[:, :place]), first[:, :place])  # nor does its absence
    changed = (before != after).any(1)
    assert not torch.equal(first[changed][:, place:], second[changed][:, place:]) or not changed.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, LENGTH))
def test_padding_changes_no_answer(seed: int, length: int) -> None:
    model, _ = traced("bert")
    texts = tokens(length=length, seed=seed)
    padding = torch.full((len(texts), LENGTH - length), PADDING)
    with torch.no_grad():
        torch.testing.assert_close(model(torch.cat([texts, padding], 1)), model(texts))


def test_a_text_of_padding_alone_has_an_answer() -> None:
    answer = traced("bert")[0](torch.full((2, LENGTH), PADDING))
    assert torch.isfinite(answer).all() and torch.equal(answer[0], answer[1])


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(OUTPUTS)), st.integers(0, 1000), st.sampled_from([0.3, 0.6]))
def test_removal_is_exact_for_random_structures(name: str, seed: int, share: float) -> None:
    model, graph = traced(name)
    inputs = tokens(seed=seed)
    inputs[0, 4:] = PADDING
    structure = random_thinning(graph, share, seed)
    small = check_exact(model, graph, structure, inputs)
    assert cost(graph, structure).params == sum(parameter.numel() for parameter in small.parameters())
    with torch.no_grad():
        shorter = inputs[:, :4]
        reference = zeroed_reference(model, graph, structure)
        assert relative_difference(small(shorter), reference(shorter)) < 1e-9


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(sorted(OUTPUTS)), st.integers(0, 1000))
def test_layers_and_channels_go_together(name: str, seed: int) -> None:
    model, graph = traced(name)
    small = compact(model, graph, random_layer_removal(graph, 0.4, seed))
    assert small(tokens()).shape == model(tokens()).shape


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_kind_of_unit_can_be_removed(name: str) -> None:
    model, graph = traced(name)
    assert graph.unknown == ()
    free = [(group.kind, group.exact) for group in graph.channels if group.reason is None]
    per_layer = [("heads", True), ("neurons", True), ("head-dims", True), ("head-dims", True)]
    assert sorted(free) == sorted([*per_layer, *per_layer, ("neurons", False)])
    assert [group.reason for group in graph.channels if group.reason] == ["the network's output"]
    assert len(graph.layers) == 4
    for group in graph.channels:
        if group.reason is None:
            check_exact(model, graph, random_thinning(graph, 0.5, only=[group.name]), tokens())
    for block in graph.layers:
        small = compact(model, graph, Structure.dense(graph).remove_block(block.name))
        assert relative_difference(small(tokens()), model(tokens())) > 1e-6


def test_embeddings_are_shown_as_what_they_are() -> None:
    layers = {layer.path: layer for layer in GraphView(traced("gpt")[1]).layers}
    assert [layers[path].kind for path in ("tokens", "positions", "head")] == ["embedding", "embedding", "linear"]
    assert (layers["tokens"].inputs, layers["tokens"].outputs) == (VOCABULARY, 16)


@pytest.mark.parametrize("name", OUTPUTS)
def test_networks_that_differ_in_one_layer_share_the_others(name: str) -> None:
    one, other = create(name, seed=5).state_dict(), create(name, seed=5, layers=3).state_dict()
    for key, weight in one.items():
        if "proj" in key and name == "gpt":  # its deviation depends on the number of layers
            torch.testing.assert_close(weight * math.sqrt(2), other[key] * math.sqrt(3))
        else:
            assert torch.equal(weight, other[key]), key
    assert not torch.equal(one["tokens.weight"], create(name, seed=6).state_dict()["tokens.weight"])


@pytest.mark.parametrize("name", OUTPUTS)
def test_initial_weights_have_the_deviations_of_gpt_2_and_bert(name: str) -> None:
    model = models.create(name, classes=64, shape=(64, 64), seed=0, options={"dim": 64})
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            expected = 0.02 / (math.sqrt(4) if name == "gpt" and path.endswith("proj") else 1)
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.05), path
        if isinstance(layer, nn.LayerNorm):
            assert (layer.weight == 1).all()
        if getattr(layer, "bias", None) is not None:
            assert not layer.bias.any(), path


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_new_classifier_has_the_deviation_of_the_old_one(name: str) -> None:
    model = create(name, seed=2)
    replaced = models.replace_classifier(copy.deepcopy(model), classes=OUTPUTS[name], seed=2, name=name)
    assert torch.equal(replaced.head.weight, model.head.weight)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TickdslError, match="dim=10 is not a multiple of heads=4"):
        create("gpt", dim=10)
    with pytest.raises(TickdslError, match="gpt needs tokens; the data has 1x8x8"):
        models.create("gpt", classes=10, shape=(1, 8, 8), seed=0)
    with pytest.raises(TickdslError, match="small-cnn needs images; the data has 7 tokens of 11"):
        models.create("small-cnn", classes=10, shape=(7, 11), seed=0)
    with pytest.raises(TickdslError, match="9 tokens, but the network has 7 positions"):
        create("bert")(tokens(length=9))


@pytest.mark.parametrize(("shape", "patch"), [((1, 8, 8), 4), ((3, 6, 9), 3), ((2, 4, 4), 1)])
def test_a_vision_transformer_answers_for_every_image_by_itself(shape: tuple[int, int, int], patch: int) -> None:
    options = {"layers": 2, "heads": 2, "dim": 8, "patch": patch}
    model = models.create("vit", classes=5, shape=shape, seed=0, options=options).double().eval()
    images = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    answers = model(images)
    assert answers.shape == (4, 5)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in images]), answers)
    # A patch is moved as a whole: within the sums of the network, only its position changes.
    model.positions.weight.data.zero_()
    columns = images.split(patch, 3)
    torch.testing.assert_close(model(torch.cat(columns[::-1], 3)), model(images))


def test_every_kind_of_unit_of_a_vision_transformer_can_be_removed() -> None:
    options = {"layers": 2, "heads": 4, "dim": 16}
    model = make_weights_distinct(models.create("vit", classes=5, shape=(1, 8, 8), seed=0, options=options).double())
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    graph = trace(model.eval(), images)
    assert graph.unknown == () and len(graph.layers) == 4
    assert {group.kind for group in graph.channels if group.reason is None} == {
        "filters", "neurons", "heads", "head-dims",
    }  # fmt: skip
    for group in graph.channels:
        if group.reason is None:
            check_exact(model, graph, random_thinning(graph, 0.5, only=[group.name]), images)


def test_patches_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TickdslError, match="images of 8x8 cannot be cut into patches of 3x3") as caught:
        models.create("vit", classes=5, shape=(1, 8, 8), seed=0, options={"patch": 3})
    assert "size=9" in (caught.value.hint or "")


def test_dropout_is_off_in_evaluation() -> None:
    model = create("gpt", dropout=0.5)
    torch.manual_seed(0)
    assert not torch.equal(model(tokens()), model(tokens()))
    assert torch.equal(model.eval()(tokens()), model(tokens()))
