"""`deepcopy_model` makes the same copies as `copy.deepcopy`."""

from __future__ import annotations

import copy

import pytest
import torch
from graph_networks import NETWORKS
from graph_oracle import relative_difference
from torch import nn
from torch.nn.utils import parametrizations

from tickdsl.graph.tracing.module_copy import deepcopy_model


class Odd(nn.Module):
    """State of every kind: shared, nested, cyclic, with hooks, with a custom `__deepcopy__`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = parametrizations.weight_norm(nn.Linear(3, 3))
        self.listed = [nn.Linear(2, 2), {"a": (1, [2])}]
        self.again = self.listed
        self.__dict__["parent"] = self
        self.names = {"x", "y"}
        self.register_buffer("scratch", torch.zeros(2), persistent=False)
        self.layer.register_forward_hook(_hook)

    def forward(self, x):
        return self.layer(x)

    def __deepcopy__(self, memo):
        copied_model = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied_model
        copied_model.__dict__.update(copy.deepcopy(self.__dict__, memo), copies=self.__dict__.get("copies", 0) + 1)
        return copied_model


def _hook(module, args, result):
    return None


@pytest.mark.parametrize("make", [make for make, _ in NETWORKS.values()], ids=NETWORKS)
def test_copies_match_deepcopy(make) -> None:
    model = make()
    copied, expected = deepcopy_model(model, {}), copy.deepcopy(model)
    assert repr(copied) == repr(expected)
    for a, b in zip(copied.modules(), expected.modules(), strict=True):
        assert type(a) is type(b) and list(vars(a)) == list(vars(b))
    assert list(copied.state_dict()) == list(expected.state_dict())
    own_ids = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for a, b in zip(copied.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b) and id(a) not in own_ids
    assert len(list(copied.parameters())) == len(list(model.parameters()))


def test_custom_copy_hooks_are_used() -> None:
    model = nn.Sequential(Odd(), nn.Linear(3, 2))
    copied_model = deepcopy_model(model, {})
    odd = copied_model[0]
    assert odd.copies == 1 and odd.parent is odd and odd.listed is odd.again and odd.listed is not model[0].listed
    assert odd.listed[0] is not model[0].listed[0] and odd._non_persistent_buffers_set == {"scratch"}
    assert relative_difference(copied_model(torch.ones(1, 3)), model(torch.ones(1, 3))) == 0


def test_the_memo_replaces_objects() -> None:
    model = nn.Linear(3, 2)
    weight = nn.Parameter(torch.ones(1, 3))
    assert deepcopy_model(model, {id(model.weight): weight}).weight is weight
