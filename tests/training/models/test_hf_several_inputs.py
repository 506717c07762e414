"""Networks of transformers that take several inputs by keyword: tokens with a mask and types."""

from __future__ import annotations

import pytest
import torch
from graph_oracle import check_exact, make_weights_distinct, random_thinning
from torch import Tensor, nn

from tickdsl.errors import InputsMismatchError
from tickdsl.graph import trace
from tickdsl.training import models
from tickdsl.training.catalogue.input_shapes import NamedInput, NamedShapes
from tickdsl.training.example_inputs import example_inputs, random_inputs, trace_arguments

pytest.importorskip("transformers")

TOKENS, MASK = NamedInput("input_ids", "integers", (6,), 20), NamedInput("attention_mask", "integers", (6,), 2)
TYPES = NamedInput("token_type_ids", "integers", (6,), 4)
SHAPES = NamedShapes((TOKENS, MASK, TYPES))


def bert(shapes: NamedShapes = SHAPES) -> nn.Module:
    return models.create("hf.bert", classes=3, shape=shapes, seed=0, options={"layers": 1, "dim": 16}).eval()


def inputs(count: int = 4) -> dict[str, Tensor]:
    drawn: dict[str, Tensor] = dict(random_inputs(count, SHAPES, torch.Generator().manual_seed(0)).tensors)  # type: ignore[attr-defined]
    drawn["attention_mask"] = (torch.arange(6) < torch.tensor([[6], [4], [3], [1]])).long()
    return drawn


def test_what_the_mask_hides_has_no_effect() -> None:
    network, given = bert(), inputs()
    with torch.no_grad():
        logits = network(**given)
        hidden = torch.where(given["attention_mask"] == 1, given["input_ids"], 7)
        assert logits.shape == (4, 3)
        torch.testing.assert_close(network(**{**given, "input_ids": hidden}), logits)
        flags = {**given, "attention_mask": given["attention_mask"].bool()}
        torch.testing.assert_close(network(**flags), logits)
        assert not torch.allclose(network(**{**given, "token_type_ids": 3 - given["token_type_ids"]}), logits)


def test_without_a_mask_padding_is_not_attended_to() -> None:
    network, given = bert(NamedShapes((TOKENS, TYPES))), inputs()
    tokens = torch.where(given["attention_mask"] == 1, given["input_ids"].clamp_min(1), 0)
    mask = (tokens != 0).long()
    with torch.no_grad():
        implied = network(input_ids=tokens, token_type_ids=given["token_type_ids"])
        said = network(input_ids=tokens, token_type_ids=given["token_type_ids"], attention_mask=mask)
    torch.testing.assert_close(implied, said)


def test_removal_is_exact() -> None:
    network = make_weights_distinct(bert()).double()
    graph = trace(network, trace_arguments(example_inputs(2, SHAPES, "meta")))
    small = check_exact(network, graph, random_thinning(graph, 0.5, only=heads(graph)), **inputs())
    assert sum(each.numel() for each in small.parameters()) < sum(each.numel() for each in network.parameters())


def heads(graph: object) -> list[str]:
    return [group.name for group in graph.channels if group.kind == "heads" and group.reason is None]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (NamedShapes((TOKENS, NamedInput("words", "integers", (6,), 2))), "does not take the input `words`"),
        (NamedShapes((MASK,)), "needs the input `input_ids` of whole numbers"),
        (NamedShapes((NamedInput("input_ids", "numbers", (6,)),)), "the inputs are input_ids 6"),
    ],
)
def test_other_inputs_are_one_error(shapes: NamedShapes, said: str) -> None:
    with pytest.raises(InputsMismatchError, match=said):
        bert(shapes)


def test_networks_for_one_input_say_so() -> None:
    with pytest.raises(InputsMismatchError, match="bert takes one input, but the data has 3: input_ids"):
        models.create("bert", classes=3, shape=SHAPES, seed=0)
