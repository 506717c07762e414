"""Copies of networks are deep, and are those that `copy.deepcopy` makes."""

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
    """State of every kind: shared, nested, cyclic, hooked, counted."""

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
        new = self.__class__.__new__(self.__class__)
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo), copies=self.__dict__.get("copies", 0) + 1)
        return new


def _hook(module, args, result):
    return None


@pytest.mark.parametrize("make", [make for make, _ in NETWORKS.values()], ids=NETWORKS)
def test_a_copy_is_that_of_deepcopy(make) -> None:
    model = make()
    one, other = deepcopy_model(model, {}), copy.deepcopy(model)
    assert repr(one) == repr(other)
    for a, b in zip(one.modules(), other.modules(), strict=True):
        assert type(a) is type(b) and list(vars(a)) == list(vars(b))
    assert list(one.state_dict()) == list(other.state_dict())
    mine = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and id(a) not in mine
    assert len(list(one.parameters())) == len(list(model.parameters()))


def test_what_a_module_says_of_its_copies_holds() -> None:
    model = nn.Sequential(Odd(), nn.Linear(3, 2))
    new = deepcopy_model(model, {})
    odd = new[0]
    assert odd.copies == 1 and odd.parent is odd and odd.listed is odd.again and odd.listed is not model[0].listed
    assert odd.listed[0] is not model[0].listed[0] and odd._non_persistent_buffers_set == {"scratch"}
    assert relative_difference(new(torch.ones(1, 3)), model(torch.ones(1, 3))) == 0


def test_the_memo_says_what_stands_for_what() -> None:
    model = nn.Linear(3, 2)
    weight = nn.Parameter(torch.ones(1, 3))
    assert deepcopy_model(model, {id(model.weight): weight}).weight is weight
