"""Networks with every kind of channel coupling: traced, pruned, and compared; compact networks stay ordinary ones."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from graph_networks import NETWORKS
from graph_oracle import (
    check_exact,
    make_weights_distinct,
    outputs,
    random_thinning,
    relative_difference,
    zeroed_reference,
)
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tickdsl.graph import Structure, TraceError, compact, cost, slice_state_dict, trace
from tickdsl.graph.cache import load_or_trace
from tickdsl.graph.surgery.rewritten import SurgeryError

CASES = [pytest.param(*case, id=name) for name, case in NETWORKS.items()]


def build(make, inputs):
    torch.manual_seed(0)
    return make_weights_distinct(make().double()).eval(), inputs()


@pytest.mark.parametrize(("make", "inputs"), CASES)
@pytest.mark.parametrize("share", [0.34, 0.5])
def test_removal_is_exact(make, inputs, share: float) -> None:
    model, example = build(make, inputs)
    graph = trace(model, example)
    assert graph.unknown == ()
    free = [group for group in graph.channels if group.reason is None and group.size > 1]
    # The reference's layer norms use the kept channels; other inexact groups have no reference.
    comparable = [group.name for group in free if group.exact or any(p.role == "norm" for p in group.slices)]
    small = check_exact(model, graph, random_thinning(graph, share, only=comparable), *example)
    for name in comparable:
        check_exact(model, graph, random_thinning(graph, share, only=[name]), *example)
    all_pruned = compact(model, graph, random_thinning(graph, share))
    shapes = [tensor.shape for tensor in outputs(model(*example))]
    assert [tensor.shape for tensor in outputs(all_pruned(*example))] == shapes
    assert list(small.state_dict()) == list(model.state_dict())
    assert [path for path, _ in small.named_modules()] == [path for path, _ in model.named_modules()]


@pytest.mark.parametrize(("make", "inputs"), CASES)
def test_compact_networks_are_ordinary(make, inputs) -> None:
    model, example = build(make, inputs)
    graph = trace(model, example)
    structure = random_thinning(graph, 0.4)
    small = compact(model, graph, structure)
    with torch.no_grad():
        expected = small(*example)
    fresh = compact(make().double().eval(), graph, structure)
    fresh.load_state_dict(small.state_dict())
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small)), fresh):
        assert relative_difference(other(*example), expected) < 1e-12
    more = [torch.cat([tensor, tensor, tensor[:1]]) for tensor in example]
    for part, whole in zip(outputs(expected), outputs(small(*more)), strict=True):
        assert torch.allclose(whole[: len(part)], part)
    small.train()
    sum(tensor.square().sum() for tensor in outputs(small(*example))).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


@pytest.mark.parametrize(("make", "inputs"), CASES)
def test_gradients_match_the_reference(make, inputs) -> None:
    model, example = build(make, inputs)
    graph = trace(model, example)
    exact = [group.name for group in graph.channels if group.exact]
    structure = random_thinning(graph, 0.4, only=exact)
    small, zeroed = compact(model, graph, structure), zeroed_reference(model, graph, structure)
    for network in (small, zeroed):
        sum(tensor.square().sum() for tensor in outputs(network(*example))).backward()
    expected = {name: parameter.grad for name, parameter in zeroed.named_parameters()}
    expected = slice_state_dict(graph, expected, Structure.dense(graph), structure)
    # The keys' bias shifts all scores of a query equally, so its gradient is only rounding error.
    rounding = 1e-15 * max(float(gradient.abs().max()) for gradient in expected.values())
    for name, parameter in small.named_parameters():
        tolerance = max(1e-9 * float(expected[name].abs().max()), rounding)
        assert torch.allclose(parameter.grad, expected[name], rtol=1e-7, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "inputs"), CASES)
def test_compact_networks_export(make, inputs) -> None:
    model, example = build(make, inputs)
    graph = trace(model, example)
    small = compact(model, graph, random_thinning(graph, 0.4))
    exported = torch.export.export(small, example).module()
    assert relative_difference(exported(*example), small(*example)) < 1e-9


@pytest.mark.parametrize(("make", "inputs"), CASES)
def test_macs_are_half_of_the_flops_that_torch_counts(make, inputs) -> None:
    model, example = build(make, inputs)
    graph = trace(model, example)
    for structure in (Structure.dense(graph), random_thinning(graph, 0.4)):
        network = compact(model, graph, structure)
        with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
            network.to("meta")(*(tensor.to("meta") for tensor in example))
        assert cost(graph, structure).macs == counter.get_total_flops() // 2


def test_tracing_changes_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 36, 2))
    model.train()
    model[1].eval()
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    gradients = [parameter.grad for parameter in model.parameters()]
    stream = torch.get_rng_state()
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    assert [group.name for group in graph.channels] == ["0", "4"]
    assert torch.equal(stream, torch.get_rng_state())
    assert [module.training for module in model.modules()] == flags
    assert all(one is other for one, other in zip(gradients, (p.grad for p in model.parameters()), strict=True))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model._forward_hooks and not model[0]._forward_pre_hooks
    assert trace(model.to("meta"), torch.zeros(1, 3, 8, 8)).to_json() == graph.to_json()


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.two(torch.linalg.inv(self.one(x)) + 1)


def test_channels_read_by_an_unsupported_operator_are_fixed() -> None:
    graph = trace(Unknown(), torch.zeros(2, 3, 3))
    assert graph.unknown and "inv" in graph.unknown[0]
    assert "is not supported" in (graph.group("one").reason or "")


class Dropping(nn.Module):
    """A hard-coded size and a functional dropout, which rewriting would lose."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(4, 3)

    def forward(self, x):
        one, two = nn.functional.dropout(self.one(x), 0.5, self.training).split(4, -1)
        return self.two(torch.relu(one)) + two[:, :3]


def test_code_with_functional_dropout_is_not_rewritten() -> None:
    model = Dropping().eval()
    graph = trace(model, torch.zeros(2, 4))
    with pytest.raises(SurgeryError, match="different operators in training mode"):
        compact(model, graph, Structure.dense(graph).remove("one", [0, 1]))


def test_a_network_that_does_not_run_is_an_error() -> None:
    with pytest.raises(TraceError, match="Linear does not run on the example inputs"):
        trace(nn.Linear(3, 2), torch.zeros(1, 4))


def test_graphs_are_cached_by_key(tmp_path) -> None:
    made = []

    def make():
        made.append(trace(nn.Linear(3, 2), torch.zeros(1, 3)))
        return made[-1]

    first, second = load_or_trace(tmp_path, "linear", make), load_or_trace(tmp_path, "linear", make)
    assert first.to_json() == second.to_json()
    assert len(made) == 1
    load_or_trace(tmp_path, "other", make)
    assert len(made) == 2
    for path in tmp_path.iterdir():
        path.write_text("{broken")
    assert load_or_trace(tmp_path, "linear", make).to_json() == first.to_json()
    assert len(made) == 3


def test_a_flipped_bit_in_a_cached_graph_is_noticed(tmp_path) -> None:
    """A graph with a damaged name or number may still be read, and fail much later."""
    graph = trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(1, 3))
    load_or_trace(tmp_path, "net", lambda: graph)
    (path,) = tmp_path.iterdir()
    intact = path.read_bytes()
    for position in range(0, len(intact), max(1, len(intact) // 40)):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert load_or_trace(tmp_path, "net", lambda: graph) is graph
        assert path.read_bytes() == intact
    assert load_or_trace(tmp_path, "net", lambda: None) is not graph
