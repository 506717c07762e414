"""`tickdsl.prune`: exact removal from networks of one's own, targets, multiples, rounds, criteria."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from graph_agreement import agreement
from graph_oracle import make_weights_distinct, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

import tickdsl
from tickdsl.extending import Criterion, average_scores, flatten_rows, producer_slices
from tickdsl.graph import Structure, compact, cost, trace
from tickdsl.pruning.criteria import CRITERIA, ScoringContext
from tickdsl.training.torchvision_import import import_torchvision

models = import_torchvision().models


class Residual(nn.Module):
    """Two residual blocks with batch norm, a depthwise and a grouped convolution, and a head of two linear layers."""

    def __init__(self, width: int = 12, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(*(Block(width, width + 4 * number) for number in range(2)))
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.wide = nn.Conv2d(width, 16, 1, groups=4)
        self.hidden, self.fc = nn.Linear(16, 10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(self.depthwise(self.blocks(self.stem(x))).relu()).relu().mean((2, 3))
        return self.fc(self.hidden(x).relu())


class Block(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.one, self.norm = nn.Conv2d(width, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.two = nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.two(F.relu(self.norm(self.one(x)))))


class Pair(nn.Module):
    """A network with two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(6, 8), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, left: Tensor, right: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(F.relu(self.left(left) + scale * self.right(right)))


def residual(width: int = 12, seed: int = 0) -> nn.Module:
    return make_weights_distinct(Residual(width, seed).double()).eval()


def images(count: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loader(batches: int = 3, classes: int = 5, **more: Any) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(8, 3, 8, 8, generator=generator, **more), torch.randint(classes, (8,), generator=generator))
        for _ in range(batches)
    ]


def removed_share(model: nn.Module, small: nn.Module, inputs: Any, target: str) -> float:
    graph = trace(model, inputs)
    dense, rest = cost(graph, Structure.dense(graph)), cost(graph, tickdsl.structure_of(small))
    return 1 - rest.macs / dense.macs if target == "flops" else 1 - rest.params / dense.params


def require_exact(model: nn.Module, small: nn.Module, inputs: Tensor) -> None:
    graph, structure = trace(model, inputs), tickdsl.structure_of(small)
    found = agreement(model, small, graph, structure, (inputs,), gradients=False)
    assert found.exact, found


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 99), st.integers(4, 20), st.sampled_from(["filters", "neurons", "channels"]),
    st.sampled_from(["global", "local"]), st.sampled_from([0.25, "50%", 0.8]), st.integers(1, 3),
    st.sampled_from([1, 4]),
)  # fmt: skip
def test_what_is_left_equals_the_dense_network_with_the_removed_channels_silenced(
    seed: int, quarter: int, unit: Any, scope: Any, amount: Any, rounds: int, multiple: int
) -> None:
    model, x = residual(4 * quarter, seed), images()
    before = copy.deepcopy(model.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tickdsl.PruningWarning)
        try:
            small = tickdsl.prune(model, x, amount, unit=unit, scope=scope, rounds=rounds, multiple=multiple)
        except tickdsl.TickdslError as error:
            assert "remove nothing" in error.message
            return
    require_exact(model, small, x)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert isinstance(small, Residual) and not small.training


@pytest.mark.parametrize("target", ["flops", "params"])
@pytest.mark.parametrize(
    "name", ["residual", "squeezenet1_1", pytest.param("mobilenet_v3_small", marks=pytest.mark.slow)]
)
def test_a_target_is_reached_and_exceeded_by_less_than_one_unit(name: str, target: Any) -> None:
    if name == "residual":
        model, x = residual(40), images()
    else:
        torch.manual_seed(0)
        model, x = models.get_model(name, num_classes=10).eval(), torch.randn(1, 3, 64, 64)
    small = tickdsl.prune(model, x, "40%", target=target, by="magnitude")
    assert removed_share(model, small, x, target) >= 0.4 - 1e-9
    # The unit that was removed last is one of these; without it, the target is not reached.
    graph, structure = trace(model, x), tickdsl.structure_of(small)
    dense, shares = cost(graph, Structure.dense(graph)), []
    for name, units in structure.kept.items():
        removed = sorted(set(range(graph.group(name).size)) - set(units.tolist()))
        one_more = np.sort(np.append(units, removed[:1]))
        rest = cost(graph, attrs.evolve(structure, kept={**structure.kept, name: one_more}))
        shares.append(1 - (rest.macs / dense.macs if target == "flops" else rest.params / dense.params))
    assert min(shares) < 0.4


@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("target", [None, "flops"])
def test_pruned_widths_are_multiples(scope: Any, target: Any) -> None:
    model = models.resnet18(num_classes=10).eval()
    x = torch.randn(1, 3, 64, 64)
    small = tickdsl.prune(model, x, "50%", scope=scope, target=target, multiple=8)
    widths = {m.out_channels for m in small.modules() if isinstance(m, nn.Conv2d)}
    assert all(width % 8 == 0 for width in widths) and len(widths) > 1
    if target is None:
        kept, groups = tickdsl.structure_of(small).kept, trace(model, x).channels
        removed = sum(group.size - len(kept[group.name]) for group in groups if group.name in kept)
        bound = 4 if scope == "global" else 4 * len(groups)
        assert abs(removed - sum(group.size for group in groups if group.kind == "filters") / 2) <= bound
    else:
        assert 0.5 <= removed_share(model, small, x, "flops") < 0.6


def test_widths_that_cannot_be_multiples_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 6, 3), nn.Flatten(), nn.Linear(96, 2))
    with pytest.warns(tickdsl.PruningWarning, match=r"1 layer kept whole, being no wider: `2` \(6\)"):
        small = tickdsl.prune(model, torch.randn(1, 3, 8, 8), "50%", scope="local", multiple=8)
    assert (small[0].out_channels, small[2].out_channels) == (16, 6)
    with pytest.raises(tickdsl.TickdslError, match="keep a multiple of 64"):
        tickdsl.prune(model, torch.randn(1, 3, 8, 8), "50%", scope="local", multiple=64)


def test_rounds_train_in_between_and_add_up() -> None:
    model, x = residual(), images()
    seen: list[int] = []

    def between(network: nn.Module) -> None:
        seen.append(sum(p.numel() for p in network.parameters()))
        optimiser = torch.optim.SGD(network.train().parameters(), lr=0.1)
        for inputs, labels in loader(dtype=torch.float64):
            optimiser.zero_grad()
            F.cross_entropy(network(inputs), labels).backward()
            optimiser.step()
        trained.append(copy.deepcopy(network.state_dict()))

    trained: list[dict[str, Tensor]] = []
    small = tickdsl.prune(model, x, "60%", scope="local", rounds=3, between=between)
    one_shot = tickdsl.prune(model, x, "60%", scope="local")
    assert len(seen) == 2 and seen[0] > seen[1] > sum(p.numel() for p in small.parameters())
    assert [p.shape for p in small.parameters()] == [p.shape for p in one_shot.parameters()]
    assert not small.training
    # The last round removes from the trained weights, and changes none that stays.
    last = trained[-1]["fc.weight"]
    assert torch.equal(small.fc.weight, last) and not torch.equal(last, model.fc.weight)
    assert set(small.blocks[0].norm.running_mean.tolist()) <= set(trained[-1]["blocks.0.norm.running_mean"].tolist())


def test_between_must_keep_the_network() -> None:
    with pytest.raises(tickdsl.TickdslError, match="returned a network with other parameters"):
        tickdsl.prune(residual(), images(), rounds=2, between=lambda network: nn.Linear(2, 2))
    with pytest.raises(tickdsl.TickdslError, match="only one"):
        tickdsl.prune(residual(), images(), between=lambda network: None)


#: They rank by what a training did, which a network alone does not show.
OF_TRAININGS = ("delta", "movement")


@pytest.mark.parametrize("by", OF_TRAININGS)
def test_criteria_of_trainings_say_where_they_work(by: str) -> None:
    with pytest.raises(tickdsl.TickdslError) as error:
        tickdsl.prune(residual(), images(), "30%", unit="weights", by=by)
    assert "plan" in str(error.value.hint) or "from … to … every …" in str(error.value.hint)


@pytest.mark.parametrize("by", [by for by in CRITERIA if by not in OF_TRAININGS])
def test_every_criterion_prunes_with_a_loader_of_ones_own(by: str) -> None:
    model, x = residual(), images()
    unit: Any = "layers" if by in ("cka", "kl") else "filters"
    small = tickdsl.prune(
        model, x, 1 if unit == "layers" else "30%", unit=unit, by=by, data=loader(dtype=torch.float64)
    )
    require_exact(model, small, x)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


def test_functions_and_classes_are_criteria() -> None:
    class Smallest(Criterion):
        units = ("filters",)

        def channels(self, context: ScoringContext, groups: Any) -> list[Tensor]:
            return [
                average_scores(
                    context,
                    group,
                    [
                        (p, flatten_rows(context.state[p.parameter], p.dim).abs().sum(1))
                        for p in producer_slices(context, group)
                    ],
                    self.name,
                )
                for group in groups
            ]

    model, x = residual(), images()
    expected = tickdsl.structure_of(tickdsl.prune(model, x, by="l1"))
    for by in (Smallest, Smallest(), lambda rows: rows.abs().sum(1)):
        assert tickdsl.structure_of(tickdsl.prune(model, x, by=by)) == expected
    with pytest.raises(tickdsl.TickdslError, match="non-finite"):
        tickdsl.prune(model, x, by=lambda rows: rows.sum(1) / 0)


def test_a_loss_of_ones_own_decides_the_order() -> None:
    model, x = residual(), images()
    data = loader(dtype=torch.float64)
    default = tickdsl.structure_of(tickdsl.prune(model, x, by="taylor", data=data))
    same = tickdsl.prune(model, x, by="taylor", data=data, loss=lambda out, labels: F.cross_entropy(out, labels))
    other = tickdsl.prune(model, x, by="taylor", data=data, loss=lambda out, labels: out[:, 0].sin().mean())
    assert tickdsl.structure_of(same) == default != tickdsl.structure_of(other)


def test_inputs_are_tensors_tuples_or_dictionaries() -> None:
    torch.manual_seed(0)
    model = Pair()
    left, right = torch.randn(2, 6), torch.randn(2, 4)
    by_name = tickdsl.prune(model, {"left": left, "right": right}, unit="neurons")
    by_place = tickdsl.prune(model, (left, right), unit="neurons")
    assert by_name.head.in_features == 4 and torch.equal(by_name(left, right), by_place(left, right))
    data = [({"left": left, "right": right}, torch.tensor([0, 2]))]
    assert tickdsl.prune(model, (left, right), unit="neurons", by="taylor", data=data).head.in_features == 4


def test_excluded_layers_keep_their_channels() -> None:
    model, x = residual(), images()
    for exclude in ("blocks.0.one", ["blocks.0.*"], model.blocks[0].one, [model.blocks[0]]):
        small = tickdsl.prune(model, x, "75%", scope="local", exclude=exclude)
        assert small.blocks[0].one.out_channels == 12 and small.blocks[1].one.out_channels == 4


def test_amounts_by_layer() -> None:
    model, x = residual(), images()
    small = tickdsl.prune(model, x, {"blocks.0.one": "75%", "blocks": 0.25}, scope="local", rounds=2)
    assert (small.blocks[0].one.out_channels, small.blocks[1].one.out_channels) == (3, 12)
    assert small.stem[0].out_channels == 12 and small.wide.out_channels == 16


def test_counts_remove_so_many_units() -> None:
    model, x = residual(), images()
    kept = tickdsl.structure_of(tickdsl.prune(model, x, 5)).kept
    graph = trace(model, x)
    assert sum(graph.group(name).size - len(units) for name, units in kept.items()) == 5


def test_masked_weights_stay_zero_in_training() -> None:
    model, x = residual(), images()
    masked = tickdsl.prune(model, x, "70%", unit="weights", rounds=2, between=lambda network: network)
    optimiser = torch.optim.Adam(masked.train().parameters(), lr=0.1)
    zeros = {name: mask == 0 for name, mask in masked.named_buffers() if name.endswith("_mask")}
    count = sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1)
    assert sum(int(zero.sum()) for zero in zeros.values()) == pytest.approx(0.7 * count, abs=1)
    for inputs, labels in loader(dtype=torch.float64):
        F.cross_entropy(masked(inputs), labels).backward()
        optimiser.step()
    masked(x)
    for module in masked.modules():
        if torch_prune.is_pruned(module) and hasattr(module, "weight_mask"):
            assert not module.weight[module.weight_mask == 0].any() and module.weight.any()
    # More masks, and then structure, on top of the masks.
    more = tickdsl.prune(masked, x, "50%", unit="weights")
    assert sum(int((m == 0).sum()) for n, m in more.named_buffers() if n.endswith("_mask")) > 0.8 * count
    assert tickdsl.prune(masked, x, "50%", scope="local").blocks[0].one.out_channels == 6


def test_the_network_keeps_what_it_is() -> None:
    model = Residual()
    model.blocks[1].two.bias.requires_grad_(False)
    model.stem.requires_grad_(False)
    model.train()
    model.stem.eval()
    model.note = {"made": "by hand"}
    calls: list[int] = []
    model.fc.register_forward_hook(lambda module, args, output: calls.append(output.shape[0]))
    with torch.no_grad():
        small = tickdsl.prune(model.to(torch.bfloat16), images().to(torch.bfloat16), by="fpgm")
    assert small.note == model.note and small.training and not small.stem.training and not small.stem[0].training
    assert all(p.dtype == torch.bfloat16 for p in small.parameters())
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in small.named_parameters()} == flags and not all(flags.values())
    calls.clear()
    small(images(3).to(torch.bfloat16))
    assert calls == [3]


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 9), nn.Linear(9, 4, bias=False)
            self.again = nn.Linear(4, 9)
            self.again.weight = self.up.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x).relu() + self.again(x).relu())

    torch.manual_seed(0)
    small = tickdsl.prune(Tied(), torch.randn(2, 4), unit="neurons")
    assert small.again.weight is small.up.weight and small.up.out_features < 9
    masked = tickdsl.prune(Tied(), torch.randn(2, 4), unit="weights")
    assert masked.again.weight_orig is masked.up.weight_orig
    assert torch.equal(masked.again.weight_mask, masked.up.weight_mask)


@pytest.mark.slow
def test_attention_is_pruned_by_heads_and_channels() -> None:
    torch.manual_seed(0)
    model = make_weights_distinct(models.VisionTransformer(16, 8, 2, 4, 32, 64, num_classes=5).double()).eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    heads = tickdsl.prune(model, x, "50%", unit="heads", scope="local")
    assert {m.num_heads for m in heads.modules() if isinstance(m, nn.MultiheadAttention)} == {2}
    for unit in ("heads", "head-dims", "channels"):
        require_exact(model, tickdsl.prune(model, x, "50%", unit=unit, scope="local"), x)


def test_a_structure_is_saved_and_applied_again(tmp_path: Any) -> None:
    model, x = residual(), images()
    small = tickdsl.prune(model, x, "50%")
    tickdsl.structure_of(small).save(tmp_path / "structure.safetensors")
    again = compact(model, trace(model, x), Structure.load(tmp_path / "structure.safetensors"))
    again.load_state_dict(small.state_dict())
    assert relative_difference(again(x), small(x)) == 0
    with pytest.raises(tickdsl.TickdslError, match="no structure"):
        tickdsl.structure_of(model)


def test_random_is_seeded() -> None:
    model, x = residual(), images()
    first, again, other = (tickdsl.structure_of(tickdsl.prune(model, x, by="random", seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_a_loader_is_read_once_and_as_far_as_needed() -> None:
    taken: list[int] = []

    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            taken.append(1)
            yield loader(1, dtype=torch.float64)[0]

    tickdsl.prune(residual(), images(), by="snip", rounds=3, data=endless())
    assert len(taken) == 7  # ten images for each of five classes, in batches of eight
