"""The shapes, types and layouts calculated for common operators are those that torch calculates."""

from __future__ import annotations

import pytest
import torch
from graph_networks import NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tickdsl.graph.tracing.meta import copy_to_meta, on_meta_device, operator_name, run_operator
from tickdsl.graph.tracing.shape_functions import SHAPE_FUNCTIONS
from tickdsl.training.torchvision_import import import_torchvision

models = import_torchvision().models
SMALL = (
    "alexnet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "mnasnet0_5", "convnext_tiny",
    "densenet121", "googlenet", "regnet_y_400mf", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t",
)  # fmt: skip


def layout(tensor: Tensor) -> tuple[object, ...]:
    """All that can be known of a tensor without data; the stride along a dimension of size 1 means nothing."""
    strides = [(size, stride if size > 1 else 0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return strides, tensor.dtype, tensor.is_contiguous(), tensor.device


class Compare(TorchDispatchMode):
    """Calculates every result twice."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        op, in_place = operator_name(func)
        result = run_operator(func, args, kwargs or {})
        if op in SHAPE_FUNCTIONS and not in_place:
            self.seen.add(op)
            wanted = func(*args, **(kwargs or {}))
            pairs = [(result, wanted)] if isinstance(result, Tensor) else list(zip(result, wanted, strict=True))
            for found, torchs in pairs:
                if not (op == "native_batch_norm" and found.numel() == 0):
                    assert layout(found) == layout(torchs), func
        return result


def _compare(model: nn.Module, *inputs: Tensor) -> set[str]:
    with on_meta_device(), Compare() as mode:
        copy_to_meta(model).eval()(*(tensor.to("meta") for tensor in inputs))
    return mode.seen


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks(name: str) -> None:
    make, inputs = NETWORKS[name]
    _compare(make().double(), *inputs())


@pytest.mark.parametrize("name", SMALL)
def test_torchvision_networks(name: str) -> None:
    with torch.device("meta"):
        model = (
            models.get_model(name, **({"init_weights": False} if name == "googlenet" else {}))
            if (not name.startswith("regnet"))
            else None
        )
    model = models.get_model(name) if model is None else model
    for memory_format in (torch.contiguous_format, torch.channels_last):
        inputs = torch.empty(2, 3, 224, 224, device="meta").to(memory_format=memory_format)
        assert _compare(model, inputs) & {"convolution", "addmm"}


TYPES = st.sampled_from([torch.float32, torch.float64])
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def operands(draw) -> tuple[Tensor, Tensor]:
    """Two tensors that broadcast, each with its dimensions in any order in memory, now and then with gaps."""
    shape = draw(sizes)
    made = []
    for _ in range(2):
        mine = [draw(st.sampled_from([size, 1])) for size in shape][draw(st.integers(0, len(shape))) :]
        order = draw(st.permutations(range(len(mine))))
        gap = draw(st.sampled_from([1, 1, 2]))
        stored = torch.empty([*(mine[dim] for dim in order), gap], dtype=draw(TYPES), device="meta").select(-1, 0)
        made.append(stored.permute([order.index(dim) for dim in range(len(mine))]))
    return made[0], made[1]


ATEN = torch.ops.aten


def test_strides_that_mean_nothing_order_what_is_broadcast() -> None:
    one = torch.empty_strided((3, 1, 2), (2, 1, 1), device="meta")
    other = torch.empty_strided((3, 1, 1, 1), (1, 3, 3, 3), device="meta")
    with Compare():
        ATEN.add.Tensor(one, other)


@settings(max_examples=300, deadline=None)
@given(operands(), st.data())
def test_any_layout(pair: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    one, other = pair
    calls = [(op, (one, other)) for op in (ATEN.add.Tensor, ATEN.mul.Tensor, ATEN.div.Tensor)]
    calls += [(ATEN.mul.Scalar, (one, 2.0)), (ATEN.relu.default, (one,)), (ATEN.clamp.default, (one, 0, None))]
    calls += [(ATEN.clone.default, (one,))]
    if one.dim():
        dim = data.draw(st.integers(-one.dim(), one.dim() - 1))
        calls += [(ATEN.mean.dim, (one, [dim], keep)) for keep in (True, False)]
        calls += [(ATEN._softmax.default, (one, dim, False)), (ATEN.roll.default, (one, [1], [dim]))]
        calls += [(ATEN.cat.default, ([one, one], dim))]
        weight = torch.empty(one.shape[-1:], dtype=one.dtype, device="meta")
        calls += [(ATEN.native_layer_norm.default, (one, list(weight.shape), weight, weight, 1e-5))]
    if one.dim() == 2:
        calls += [(ATEN.mm.default, (one, one.t())), (ATEN.addmm.default, (one[:1, :1], one, one.t()))]
    if one.dim() == 3:
        calls += [(ATEN.bmm.default, (one, one.transpose(1, 2)))]
    with torch.no_grad():
        for func, args in calls:
            with Compare():
                func(*args)


def test_other_forms_of_an_operator_are_left_to_torch() -> None:
    x, small = torch.empty(2, 3, device="meta"), torch.empty(0, device="meta")
    with torch.no_grad(), Compare():
        assert x.mean().shape == ()
        assert x.mean(1, dtype=torch.float64).dtype == torch.float64
        assert x.softmax(1, dtype=torch.float64).dtype == torch.float64
        assert x.clamp(min=x[:1]).shape == torch.div(x, 2, rounding_mode="floor").shape == (2, 3)
        assert torch.add(x, 1, out=small) is small and small.shape == (2, 3)


MISFITS = {
    "convolution": lambda x: nn.functional.conv2d(x, torch.empty(5, 2, 3, 3)),
    "batch norm": lambda x: nn.functional.batch_norm(x, *torch.empty(4, 5)),
    "sum": lambda x: x + torch.empty(2, 4, 4),
    "sum in place": lambda x: x.add_(torch.empty(3, 2, 3, 4, 4)),
    "layer norm": lambda x: nn.functional.layer_norm(x, [5]),
    "concatenation": lambda x: torch.cat([x, x[:, :, :2]], 1),
    "product": lambda x: x.flatten(1) @ torch.empty(5, 6),
    "batched product": lambda x: torch.bmm(x[:, 0], torch.empty(2, 3, 4)),
    "mean": lambda x: x.mean(7),
}


@pytest.mark.parametrize("call", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_an_error(call) -> None:
    with on_meta_device(), pytest.raises((RuntimeError, IndexError)), Compare():
        call(torch.empty(2, 3, 4, 4))
