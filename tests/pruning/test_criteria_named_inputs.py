"""Networks that take several inputs by keyword: exact removal, every criterion, and synaptic flow by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from graph_oracle import check_exact, emptied, make_weights_distinct, random_thinning
from named_data import NETWORK
from torch import Tensor, nn

import tickdsl
from tickdsl.errors import InputsMismatchError
from tickdsl.graph import trace
from tickdsl.pruning.criteria import CRITERIA
from tickdsl.training.catalogue.input_shapes import NamedInput, NamedShapes
from tickdsl.training.example_inputs import example_inputs
from tickdsl.training.models.keyword_inputs import require_keywords

SHAPES = NamedShapes((NamedInput("image", "image", (3, 6, 6)), NamedInput("meta", "numbers", (4,))))


def pair() -> nn.Module:
    code: dict[str, Any] = {}
    exec(NETWORK, code)
    torch.manual_seed(0)
    return make_weights_distinct(code["network"](3, SHAPES)).eval()


def inputs(count: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(count, *shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("seed", range(4))
def test_removal_is_exact_for_networks_of_two_inputs(seed: int) -> None:
    model = pair().double()
    graph = trace(model, {name: each.double() for name, each in example_inputs(2, SHAPES).tensors.items()})  # type: ignore[attr-defined]
    assert {name.partition(".")[0] for name, info in graph.weights.items() if not info.is_output} == {
        "conv1", "conv2", "numbers", "hidden",
    }  # fmt: skip
    structure = random_thinning(graph, 0.5, seed)
    given = {name: each.double() for name, each in inputs().items()}
    small = check_exact(model, graph, structure, **given)
    with emptied(model, small, graph, structure):
        torch.testing.assert_close(small(**given), model(**given), rtol=1e-10, atol=1e-10)


#: Criteria that need the weights of a training, batch norm or a feature map for every unit, or removable blocks.
OTHERS = ("delta", "movement", "bn-scale", "cka", "kl", "hrank")


@pytest.mark.parametrize("by", sorted({*CRITERIA} - {*OTHERS}))
def test_every_criterion_prunes_with_batches_of_dictionaries(by: str) -> None:
    model, batch = pair(), (inputs(), torch.arange(6) % 3)
    unit: Any = next(unit for unit in ("neurons", "filters", "weights") if unit in CRITERIA[by].units)
    small = tickdsl.prune(model, inputs(), "30%", unit=unit, by=by, data=[batch])
    assert small(**inputs()).shape == (6, 3)
    assert not torch.equal(small(**inputs()), model(**inputs()))


class Linear2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.head = nn.Linear(2, 3), nn.Linear(4, 3), nn.Linear(3, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        result: Tensor = self.head(self.one(a) + self.other(b))
        return result


def test_synaptic_flow_sets_every_number_to_one() -> None:
    """A unit's score by hand: the flow that reaches it from all inputs, times what it sends on."""
    torch.manual_seed(0)
    model = Linear2()
    example = {"a": torch.randn(2, 2), "b": torch.randn(2, 4)}
    one, other, head = (layer.weight.detach().double().abs() for layer in (model.one, model.other, model.head))
    flow = (one.sum(1) + other.sum(1)) * head[0] / 2  # coupled layers are averaged
    smaller = tickdsl.prune(model, example, 1, unit="neurons", by="synflow")
    kept = sorted(set(range(3)) - {int(flow.argmin())})
    assert torch.equal(smaller.one.weight, model.one.weight[kept])  # type: ignore[union-attr]


def test_names_must_be_parameters_of_forward() -> None:
    require_keywords("pair", pair().forward, SHAPES)
    require_keywords("pair", lambda **inputs: None, SHAPES)
    more = NamedShapes((*SHAPES.inputs, NamedInput("extra", "flags", (2,))))
    with pytest.raises(InputsMismatchError, match="does not take the input `extra`: its `forward` takes image, meta"):
        require_keywords("pair", pair().forward, more)
    with pytest.raises(InputsMismatchError, match="needs the input `meta`, which the data does not have"):
        require_keywords("pair", pair().forward, NamedShapes(SHAPES.inputs[:1]))
    with pytest.raises(InputsMismatchError, match="does not take the inputs `image`, `meta`"):
        require_keywords("pair", lambda **inputs: None, SHAPES, any_keyword=False)
