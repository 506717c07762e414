"""Fresh weights of pruned networks: drawn as the network's own code would draw them at that size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tickdsl.graph.indexing import fan_in_shares
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact
from tickdsl.graph.tracing.trace import trace
from tickdsl.training.models.fresh_weights import redraw, scale_to_fan_in
from tickdsl.training.models.initialiser_record import InitialisationRecorder

WIDTH, KEPT = 64, 16


class TwoConvolutions(nn.Module):
    """`initialise` is what the author's constructor does to the weight of the second convolution."""

    def __init__(self, initialise: Callable[[nn.Conv2d], Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 3)
        self.head = nn.Linear(WIDTH, 5)
        initialise(self.second)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head(torch.relu(self.second(torch.relu(self.first(images)))).mean((2, 3)))
        return features


def _numbers(layer: nn.Conv2d) -> None:
    layer.weight.data.normal_(0, math.sqrt(2 / (9 * WIDTH)))


def _computed(layer: nn.Conv2d) -> None:
    layer.weight = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) / math.sqrt(9 * WIDTH))


def _by_module(layer: nn.Conv2d) -> None:
    layer.reset_parameters()


#: What the author wrote, and the deviation of the weights that it gives for `fan` inputs, and as many outputs.
INITIALISERS: dict[str, tuple[Callable[[nn.Conv2d], Any], Callable[[int], float]]] = {
    "fan in": (lambda layer: nn.init.kaiming_normal_(layer.weight, nonlinearity="relu"), lambda fan: (2 / fan) ** 0.5),
    "fan out": (
        lambda layer: nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu"),
        lambda fan: (2 / fan) ** 0.5,
    ),
    "both": (lambda layer: nn.init.xavier_uniform_(layer.weight), lambda fan: (1 / fan) ** 0.5),
    "numbers": (_numbers, lambda fan: (2 / fan) ** 0.5),
    "computed": (_computed, lambda fan: (1 / fan) ** 0.5),
    "default": (_by_module, lambda fan: (1 / (3 * fan)) ** 0.5),
}


def _pruned(initialise: Callable[[nn.Conv2d], Any]) -> tuple[Any, dict[str, Any], dict[str, float]]:
    recorder = InitialisationRecorder()
    with recorder:
        torch.manual_seed(3)
        dense = TwoConvolutions(initialise)
    graph = trace(dense, (torch.zeros(2, 1, 8, 8),))
    structure = Structure.dense(graph)
    for group in ("first", "second"):
        structure = structure.remove(group, np.arange(KEPT, WIDTH))
    return compact(dense, graph, structure), recorder.origins(dense), fan_in_shares(graph, structure)


@pytest.mark.parametrize("author", INITIALISERS)
def test_fresh_weights_have_the_size_that_the_author_gives_a_network_of_that_shape(author: str) -> None:
    initialise, expected = INITIALISERS[author]
    module, origins, shares = _pruned(initialise)
    before = torch.random.get_rng_state()
    redraw(module, origins, shares, seed=1, role="control")
    assert torch.equal(before, torch.random.get_rng_state())
    assert module.second.weight.std().item() == pytest.approx(expected(9 * KEPT), rel=0.05)
    assert module.first.weight.std().item() == pytest.approx((1 / 27) ** 0.5, rel=0.15)
    if author != "computed":  # that one replaced the parameter after its layer had drawn its bias
        bound = 1 / math.sqrt(9 * KEPT)
        assert bound / 2 < module.second.bias.abs().max().item() <= bound


@pytest.mark.parametrize("author", INITIALISERS)
def test_fresh_weights_are_other_ones_and_the_same_at_every_call(author: str) -> None:
    states = []
    for seed in (1, 1, 2):
        module, origins, shares = _pruned(INITIALISERS[author][0])
        sliced = module.first.weight.clone()
        redraw(module, origins, shares, seed=seed, role="control")
        assert not torch.equal(sliced, module.first.weight)
        states.append(module.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not torch.equal(states[0]["first.weight"], states[2]["first.weight"])


def test_weights_that_are_given_stay_and_constants_too() -> None:
    kernel = torch.linspace(-1, 1, WIDTH * WIDTH * 9).view(WIDTH, WIDTH, 3, 3)

    def load(layer: nn.Conv2d) -> None:
        with torch.no_grad():
            layer.weight.copy_(kernel)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    module, origins, shares = _pruned(load)
    assert origins["second.weight"].kind == "given" and not origins["second.bias"].is_random
    redraw(module, origins, shares, seed=1, role="control")
    assert torch.equal(module.second.weight, kernel[:KEPT, :KEPT])
    assert not module.second.bias.any()


def test_slices_scaled_to_their_fan_in_keep_the_variance_of_every_layer() -> None:
    module, _, shares = _pruned(INITIALISERS["fan in"][0])
    assert shares == {"second.weight": KEPT / WIDTH, "head.weight": KEPT / WIDTH}
    sliced = module.second.weight.clone()
    scale_to_fan_in(dict(module.named_parameters()), shares)
    torch.testing.assert_close(module.second.weight, 2 * sliced)
    assert module.second.weight.std().item() == pytest.approx((2 / (9 * KEPT)) ** 0.5, rel=0.05)
