"""Which block of a network comes to which place of a deeper or shallower one, by the rules of Chen et al. 2021."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.engine.dense_networks import DenseNetwork, dense_network
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, compact_masks, slice_state_dict
from tickdsl.pruning.elastic import (
    Block,
    ElasticError,
    Stages,
    block_map,
    squeeze,
    stages_of,
    stretch,
)
from tickdsl.pruning.elastic_structure import carry_structure
from tickdsl.pruning.elastic_weights import carry_weights
from tickdsl.records.canonical import canonical_json

IMAGES = {"vgg": (3, 16, 16), "resnet": (3, 8, 8), "lenet": (1, 8, 8)}


def network(name: str, **options: Any) -> DenseNetwork:
    """A narrow network, so that it is traced quickly."""
    shape = next(shape for family, shape in IMAGES.items() if name.startswith(family))
    return dense_network(name, canonical_json({"width": 0.1, **options}), 10, shape)


#: Source, target, rule, and for each stage the blocks of the source that come to the places of the target, in order.
#: ResNets: the paper's mapping `0:0;1:1,3;2:2,4` of its ResNet-20 to ResNet-32 (append), and `0:0;1:1,2;2:3,4`.
CASES: list[tuple[tuple[str, int], tuple[str, int], Mapping[str, Any], list[list[int]]]] = [
    (("resnet20", 0), ("resnet32", 0), {"order": "append"}, [[0, 1, 2, 1, 2]] * 3),
    (("resnet20", 0), ("resnet32", 0), {"order": "interpolate"}, [[0, 1, 1, 2, 2]] * 3),
    (("resnet20", 0), ("resnet56", 0), {"order": "append"}, [[0, 1, 2, 1, 2, 1, 2, 1, 2]] * 3),
    (("resnet32", 0), ("resnet56", 0), {"order": "interpolate"}, [[0, 1, 1, 2, 2, 3, 3, 4, 4]] * 3),
    (("resnet32", 0), ("resnet44", 0), {"order": "append"}, [[0, 1, 2, 3, 4, 1, 2]] * 3),
    (("resnet32", 0), ("resnet44", 0), {"order": "interpolate"}, [[0, 1, 1, 2, 2, 3, 4]] * 3),
    (("resnet32", 0), ("resnet20", 0), {"drop": "last"}, [[0, 1, 2]] * 3),
    (("resnet32", 0), ("resnet20", 0), {"drop": "alternate"}, [[0, 1, 3]] * 3),
    (("resnet56", 0), ("resnet32", 0), {"drop": "alternate"}, [[0, 1, 3, 5, 7]] * 3),
    (("resnet32", 0), ("resnet20", 0), {"drop": ["layer*.1", "layer*.2"]}, [[0, 3, 4]] * 3),
    (
        ("resnet32", 0), ("resnet20", 0),
        {"drop": ["layer1.1", "layer1.2", "layer2.3", "layer2.4", "layer3.2", "layer3.4"]},
        [[0, 3, 4], [0, 1, 2], [0, 1, 3]],
    ),
    (("vgg13", 0), ("vgg19", 0), {"order": "append"}, [[0, 1], [0, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]),
    (("vgg16", 0), ("vgg19", 0), {"order": "append"}, [[0, 1], [0, 1], [0, 1, 2, 1], [0, 1, 2, 1], [0, 1, 2, 1]]),
    (("vgg16", 0), ("vgg19", 0), {"order": "interpolate"}, [[0, 1], [0, 1], [0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 1, 2]]),
    (("vgg19", 0), ("vgg11", 0), {"drop": "last"}, [[0], [0], [0, 1], [0, 1], [0, 1]]),
    (("lenet-300-100", 2), ("lenet-300-100", 4), {"order": "append"}, [[0, 1, 1, 1], [0], [0]]),
    (("lenet-300-100", 3), ("lenet-300-100", 5), {"order": "append"}, [[0, 1, 2, 1, 2], [0], [0]]),
    (("lenet-300-100", 5), ("lenet-300-100", 1), {"drop": "last"}, [[0], [0], [0]]),
]  # fmt: skip


def built(spec: tuple[str, int]) -> DenseNetwork:
    name, depth = spec
    return network(name, depth=depth) if depth else network(name)


@pytest.mark.parametrize(("source", "target", "rule", "places"), CASES, ids=lambda value: str(value)[:40])
def test_every_block_comes_from_the_block_that_the_paper_names(
    source: tuple[str, int], target: tuple[str, int], rule: Mapping[str, Any], places: list[list[int]]
) -> None:
    mapping = block_map(built(source).graph, built(target).graph, rule)
    assert [[block.number for block, _ in pairs] for pairs in mapping.stages.values()] == places
    assert all([place.number for _, place in pairs] == [*range(len(pairs))] for pairs in mapping.stages.values())


def stage(count: int) -> Stages:
    return {"layer1": tuple(Block((f"layer1.{number}",), number) for number in range(count))}


@given(st.integers(2, 12), st.integers(0, 40), st.sampled_from(["append", "interpolate"]))
def test_a_stretch_uses_every_block_equally_often_up_to_one(known: int, added: int, order: str) -> None:
    pairs = stretch(stage(known), stage(known + added), order).stages["layer1"]
    numbers = [source.number for source, _ in pairs]
    counts = Counter(numbers)
    assert numbers[0] == 0 and counts.pop(0) == 1
    assert counts.keys() == set(range(1, known)) and max(counts.values()) - min(counts.values()) <= 1
    if order == "interpolate":
        assert numbers == sorted(numbers)
    else:
        assert numbers[1:known] == [*range(1, known)] and all(
            later == earlier for earlier, later in zip(numbers[1:], numbers[known:], strict=False)
        )


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from(["last", "alternate"]))
def test_a_squeeze_keeps_the_order_and_the_first_block(known: int, left: int, drop: str) -> None:
    if left > known:
        with pytest.raises(ElasticError, match=r"blocks?, and"):
            squeeze(stage(known), stage(left), drop)
        return
    numbers = [source.number for source, _ in squeeze(stage(known), stage(left), drop).stages["layer1"]]
    assert numbers[0] == 0 and numbers == sorted(set(numbers)) and numbers[-1] < known
    if drop == "last":
        assert numbers == [*range(left)]
    elif left > 2:  # as evenly as possible
        gaps = np.diff(numbers[1:])
        assert gaps.max() - gaps.min() <= 1


WRONG: list[tuple[tuple[str, int], tuple[str, int], Mapping[str, Any], str]] = [
    (("resnet20", 0), ("vgg16", 0), {"order": "append"}, "stages are"),
    (("vgg11", 0), ("vgg16", 0), {"order": "append"}, "no block besides its first one"),
    (("resnet32", 0), ("resnet20", 0), {"order": "append"}, "5 blocks, and only 3"),
    (("resnet20", 0), ("resnet32", 0), {"drop": "last"}, "3 blocks, and 5"),
    (("resnet20", 0), ("resnet20", 0), {"order": "append"}, "same blocks"),
    (("resnet32", 0), ("resnet20", 0), {"drop": ["layer*.1"]}, "1 block of layer1, and 2 have to go"),
    (("resnet32", 0), ("resnet20", 0), {"drop": ["layer*.0", "layer*.1"]}, "first block of its stage"),
    (("resnet32", 0), ("resnet20", 0), {"drop": ["layer9.1"]}, "no block"),
    (("lenet-300-100", 1), ("lenet-300-100", 3), {"order": "append"}, "no block besides its first one"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "rule", "reason"), WRONG, ids=lambda value: str(value)[:40])
def test_what_cannot_be_carried_is_said(
    source: tuple[str, int], target: tuple[str, int], rule: Mapping[str, Any], reason: str
) -> None:
    with pytest.raises(ElasticError, match=reason):
        block_map(built(source).graph, built(target).graph, rule)


def test_other_widths_and_networks_without_blocks_are_refused() -> None:
    wide = dense_network("resnet32", canonical_json({"width": 0.2}), 10, IMAGES["resnet"])
    with pytest.raises(ElasticError, match=r"conv1\.weight"):
        block_map(network("resnet20").graph, wide.graph, {"order": "append"})
    with pytest.raises(ElasticError, match="no blocks"):
        stages_of(dense_network("small-cnn", canonical_json({}), 10, (1, 8, 8)).graph)


def random_ticket(dense: DenseNetwork, seed: int, blocks: int = 1) -> Structure:
    """A structure with masks everywhere, removed filters in every group and a removed block, if there is one."""
    random = np.random.default_rng(seed)
    structure = Structure.dense(dense.graph)
    for group in dense.graph.channels:
        if group.reason is None and group.size > 1:
            structure = structure.remove(group.name, random.permutation(group.size)[: group.size // 2])
    for block in dense.graph.layers[-1:][:blocks]:
        structure = structure.remove_block(block.name)
    masks = {name: random.random(dense.graph.parameters[name]) < 0.6 for name in dense.graph.weights}
    return structure.with_masks(masks)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[7], CASES[11], CASES[15]], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_masks_and_channels_are_those_of_the_block_that_each_comes_from(case: Any, seed: int) -> None:
    source, target, rule = built(case[0]), built(case[1]), case[2]
    mapping = block_map(source.graph, target.graph, rule)
    ticket = random_ticket(source, seed)
    carried = carry_structure(ticket, source.graph, target.graph, mapping)
    modules = {b.name: a.name for pairs in mapping.stages.values() for a, b in pairs}
    for name in target.graph.parameters:
        place = next((block for block in modules if name.startswith(f"{block}.")), None)
        origin = name if place is None else name.replace(place, modules[place], 1)
        if name.startswith("bn") and "_" in name:  # a VGG's norm belongs to its convolution
            conv = modules[name.split(".")[0].replace("bn", "conv")]
            origin = f"{conv.replace('conv', 'bn')}.{name.split('.')[1]}"
        assert np.array_equal(carried.masks.get(name, True), ticket.masks.get(origin, True))
    state = carry_weights(source.module.state_dict(), target.module.state_dict(), mapping)
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in target.module.state_dict().items()
    }
    smaller = compact(target.module, target.graph, carried)
    assert smaller(torch.zeros(2, *IMAGES[next(f for f in IMAGES if case[0][0].startswith(f))])).shape == (2, 10)
    assert compact_masks(target.graph, carried)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stretched_ticket_squeezes_back_to_itself(seed: int) -> None:
    small, large = network("resnet20"), network("resnet32")
    ticket = random_ticket(small, seed)
    there = block_map(small.graph, large.graph, {"order": "append"})
    back = block_map(large.graph, small.graph, {"drop": "last"})
    stretched = carry_structure(ticket, small.graph, large.graph, there)
    assert carry_structure(stretched, large.graph, small.graph, back) == ticket
    state = small.module.state_dict()
    returned = carry_weights(carry_weights(state, large.module.state_dict(), there), state, back)
    assert all(torch.equal(returned[name], state[name]) for name in state)
    share = [np.mean([mask.mean() for mask in each.masks.values()]) for each in (ticket, stretched)]
    assert share[0] == pytest.approx(share[1], abs=0.05)  # the sparsity is kept, approximately


def lenet(width: float, depth: int = 2) -> DenseNetwork:
    return dense_network("lenet-300-100", canonical_json({"width": width, "depth": depth}), 10, IMAGES["lenet"])


#: Source, target (width, depth), rule, and the neurons of the source that the first layer's come from.
WIDTHS: list[tuple[tuple[float, int], tuple[float, int], Mapping[str, Any], list[int]]] = [
    ((0.02, 2), (0.04, 2), {"order": "append"}, [*range(6)] * 2),
    ((0.02, 2), (0.04, 2), {"order": "interpolate"}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
    ((0.02, 2), (0.05, 2), {"order": "append"}, [*range(6), *range(6), 0, 1, 2]),
    ((0.02, 1), (0.04, 1), {"order": "append"}, [*range(6)] * 2),
    ((0.05, 2), (0.02, 2), {"drop": "last"}, [*range(6)]),
    ((0.04, 2), (0.02, 2), {"drop": "alternate"}, [0, 2, 4, 6, 8, 10]),
    ((0.05, 4), (0.02, 2), {"drop": "alternate"}, [0, 2, 5, 7, 10, 12]),
    ((0.02, 2), (0.04, 4), {"order": "interpolate"}, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "rule", "neurons"), WIDTHS, ids=lambda value: str(value)[:30])
def test_neurons_of_another_width_have_the_weights_and_masks_of_those_they_come_from(
    source: tuple[float, int], target: tuple[float, int], rule: Mapping[str, Any], neurons: list[int]
) -> None:
    ours, theirs = lenet(*source), lenet(*target)
    mapping = block_map(ours.graph, theirs.graph, rule)
    first = mapping.layer_units.get("fc1")
    assert first is not None and first.sources.tolist() == neurons
    ticket = random_ticket(ours, 6, blocks=0)
    carried = carry_structure(ticket, ours.graph, theirs.graph, mapping)
    state = ours.module.state_dict()
    here = carry_weights(state, theirs.module.state_dict(), mapping)
    assert {name: tuple(tensor.shape) for name, tensor in here.items()} == theirs.graph.parameters
    assert torch.equal(here["fc1.weight"], state["fc1.weight"][neurons])
    assert np.array_equal(carried.masks["fc1.weight"], ticket.masks["fc1.weight"][neurons])
    group, other = (net.graph.groups_by_producer["fc1"] for net in (theirs, ours))
    assert carried.kept[group].tolist() == [n for n, unit in enumerate(neurons) if unit in ticket.kept[other]]
    second = mapping.source_of("fc2.weight")
    assert np.array_equal(
        carried.masks["fc2.weight"][:, np.flatnonzero(np.array(neurons) == neurons[-1])],
        carried.masks["fc2.weight"][:, [len(neurons) - 1]].repeat(neurons.count(neurons[-1]), axis=1),
    ), second
    assert compact(theirs.module, theirs.graph, carried)(torch.zeros(2, *IMAGES["lenet"])).shape == (2, 10)


@pytest.mark.parametrize("rule", [{"order": "append"}, {"order": "interpolate"}], ids=str)
@pytest.mark.parametrize("width", [0.04, 0.05, 0.1])
def test_a_wider_network_computes_what_the_ticket_does_and_its_copies_differ(
    width: float, rule: Mapping[str, Any]
) -> None:
    ours, theirs = lenet(0.02), lenet(width)
    mapping = block_map(ours.graph, theirs.graph, rule)
    ticket = random_ticket(ours, 5, blocks=0)
    networks = []
    for net, structure, state in (
        (ours, ticket, ours.module.state_dict()),
        (
            theirs, carry_structure(ticket, ours.graph, theirs.graph, mapping),
            carry_weights(ours.module.state_dict(), theirs.module.state_dict(), mapping),
        ),
    ):  # fmt: skip
        masked = {
            name: value * torch.from_numpy(structure.masks[name].copy()) if name in structure.masks else value
            for name, value in state.items()
        }
        dense = Structure.dense(net.graph)
        removed = structure.with_masks({name: np.ones(net.graph.parameters[name], bool) for name in structure.masks})
        smaller = compact(net.module, net.graph, removed)
        smaller.load_state_dict(slice_state_dict(net.graph, masked, dense, removed))
        networks.append(smaller)
    images = torch.rand(16, *IMAGES["lenet"], generator=torch.Generator().manual_seed(1))
    assert torch.allclose(networks[0](images), networks[1](images), atol=1e-6)
    networks[1](images).square().sum().backward()
    gradient = networks[1].fc1.bias.grad  # type: ignore[union-attr]
    alive = gradient[gradient != 0]
    assert len(alive) > 1 and len(torch.unique(alive)) == len(alive)


def test_layers_that_do_not_all_become_wider_are_refused() -> None:
    with pytest.raises(ElasticError, match="fc1 has 12 neurons, and fc1 only 6 there"):
        block_map(lenet(0.04, 2).graph, lenet(0.02, 4).graph, {"order": "append"})
    with pytest.raises(ElasticError, match="fc1 has 6 neurons, and fc1 12 there"):
        block_map(lenet(0.02, 4).graph, lenet(0.04, 2).graph, {"drop": "last"})


def test_a_narrowed_ticket_is_what_was_widened() -> None:
    small, large = lenet(0.02), lenet(0.04, 4)
    ticket = random_ticket(small, 2, blocks=0)
    there = block_map(small.graph, large.graph, {"order": "append"})
    back = block_map(large.graph, small.graph, {"drop": "last"})
    stretched = carry_structure(ticket, small.graph, large.graph, there)
    assert carry_structure(stretched, large.graph, small.graph, back) == ticket
    assert str(there) == "stage 1: B0 B1 B1 B1; stage 2, stage 3: B0; 6 neurons become 12; 2 neurons become 4"
