"""What `tickdsl.prune` refuses, with one message each that says what to change."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tickdsl


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )


X = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ({"amount": "100%"}, "removes everything", "below 100%"),
        ({"amount": 0.0}, "removes nothing", "50%"),
        ({"amount": 0}, "removes nothing", "50%"),
        ({"amount": "50"}, "cannot be '50'", "50%"),
        ({"amount": "-5%"}, "cannot be '-5%'", "50%"),
        ({"amount": 0.001}, "would remove nothing", "larger amount"),
        ({"amount": 500}, "cannot remove 500 filters", "smaller amount"),
        ({"amount": {"0": "50%"}}, "for each layer", "local"),
        ({"amount": {"9": "50%"}, "scope": "local"}, "`9` matches no layer", "the network has"),
        ({"unit": "filter"}, "`unit` cannot be 'filter'", "did you mean `filters`"),
        (
            {"unit": "heads"},
            "no heads are in scope",
            "choose another unit (the network has filters that can be removed)",
        ),
        ({"exclude": ["0", "2"]}, "no filters are in scope", "exclude fewer layers"),
        ({"scope": "searched"}, "only plans do", "tickdsl.run"),
        ({"scope": "layer"}, "`scope` cannot be", "global, local"),
        ({"by": "tailor"}, "no criterion `tailor`", "did you mean `taylor`"),
        ({"by": 3}, "not a criterion", "function"),
        ({"by": "taylor"}, "needs data", "data=loader"),
        ({"by": "taylor", "data": []}, "no batches", "loader"),
        ({"by": "taylor", "data": [torch.randn(2, 3, 8, 8)]}, "pairs", "wrap"),
        ({"by": "cka"}, "needs data", "data=loader"),
        ({"by": "bn-scale"}, "has no batch norm after it", "another criterion"),
        ({"by": "hrank", "unit": "weights", "data": [(X, torch.tensor([0, 1]))]}, "cannot rank weights", "filters"),
        ({"target": "macs"}, "`target` cannot be", "flops, params"),
        ({"target": "flops", "amount": 3}, "is a share", "50%"),
        ({"target": "flops", "unit": "weights"}, "masked weights", "leave out"),
        ({"target": "flops", "amount": "95%", "exclude": "0"}, "95% of the FLOPs cannot be removed: at most", "lower"),
        ({"exclude": "2.conv"}, "`2.conv` matches no layer", "the network has `0`, `2`, `5`"),
        ({"exclude": "features.convv"}, "`features.convv` matches no layer", "did you mean `features.conv`"),
        ({"exclude": nn.Linear(2, 2)}, "not a layer of the network", "its path"),
        ({"multiple": 0}, "`multiple` must be an integer", None),
        ({"multiple": 8, "unit": "weights"}, "widths of layers", None),
        ({"rounds": 0}, "`rounds` must be an integer", None),
        ({"rounds": 50}, "would remove nothing", "fewer rounds"),
        ({"data": 3, "by": "snip"}, "`data` cannot be of type int", "a loader"),
        ({"data": [3], "by": "snip"}, "returned an item of type int", "wrap the loader"),
        ({"between": 3, "rounds": 2}, "`between` cannot be 3", "pass a function"),
        ({"between": print}, "only one", "rounds=2"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, Any], message: str, hint: str | None) -> None:
    model: nn.Module = network()
    if str(arguments.get("exclude", "")).startswith("features"):
        names = ["conv", "act", "last", "pool", "flat", "fc"]
        model = nn.Sequential(OrderedDict(features=nn.Sequential(OrderedDict(zip(names, model, strict=True)))))
    with pytest.raises(tickdsl.TickdslError) as raised:
        tickdsl.prune(model, X, **arguments)
    assert message in raised.value.message
    assert hint is None or hint in (raised.value.hint or "")


def test_a_target_out_of_reach_names_what_holds_it() -> None:
    with pytest.raises(tickdsl.TickdslError, match=r"`0` keeps \d.*excluded"):
        tickdsl.prune(network(), X, "95%", target="flops", exclude="0")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((1, 3, 8, 8), "no tensor"),
        (None, "no tensor"),
        ([], "no tensor"),
        ({"x": 3}, "no tensor"),
        (X[:, :1], "does not run on the example inputs"),
        ((X, object()), "cannot contain a object"),
    ],
)
def test_example_inputs_of_another_kind(inputs: Any, message: str) -> None:
    with pytest.raises(tickdsl.TickdslError, match=message):
        tickdsl.prune(network(), inputs)


def test_networks_that_cannot_be_pruned() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with torch.device("meta"):
        empty = network()
    cases: list[tuple[Any, str]] = [
        (empty, "on the meta device"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), "has no shape yet"),
        (nn.DataParallel(network()), "wrapped in DataParallel"),
        (torch.compile(network()), "wrapped in OptimizedModule"),
        (torch.jit.trace(network(), X), "TorchScript"),
        (Reads(), "does not run"),
        (nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), "`weight` is computed by a hook"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"no filters are in scope; these stay: `0` \(the network's output\)"),
        (network, "expected a network"),
    ]
    for model, message in cases:
        with pytest.raises(tickdsl.TickdslError, match=message):
            tickdsl.prune(model, X)
