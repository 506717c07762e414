"""The shape functions give the same shapes, dtypes and layouts as torch."""

from __future__ import annotations

import pytest
import torch
from graph_networks import NETWORKS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tickdsl.graph.tracing.meta import MetaRun, copy_to_meta, on_meta_device, operator_name, run_operator
from tickdsl.graph.tracing.shape_functions import SHAPE_FUNCTIONS
from tickdsl.training.torchvision_import import import_torchvision

models = import_torchvision().models
SMALL = (
    "alexnet", "squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "mnasnet0_5", "convnext_tiny",
    "densenet121", "googlenet", "regnet_y_400mf", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t",
)  # fmt: skip


def layout(tensor: Tensor) -> tuple[object, ...]:
    """The properties of a meta tensor; strides of dimensions of size 1 do not matter and are ignored."""
    strides = [(size, stride if size > 1 else 0) for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]
    return strides, tensor.dtype, tensor.is_contiguous(), tensor.device


class Compare(TorchDispatchMode):
    """Compares each result with torch's."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        op, in_place = operator_name(func)
        result = run_operator(func, args, kwargs or {})
        if op in SHAPE_FUNCTIONS and not in_place:
            self.seen.add(op)
            reference = func(*args, **(kwargs or {}))
            pairs = [(result, reference)] if isinstance(result, Tensor) else list(zip(result, reference, strict=True))
            for actual, expected in pairs:
                if not (op == "native_batch_norm" and actual.numel() == 0):
                    assert layout(actual) == layout(expected), func
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


@pytest.mark.parametrize("bias", [True, False])
def test_matrices_that_do_not_fit_are_refused_in_the_words_of_torch(bias: bool) -> None:
    layer, inputs = nn.Linear(6, 4, bias=bias), torch.ones(3, 5)
    with pytest.raises(RuntimeError) as expected:
        layer(inputs)
    with pytest.raises(RuntimeError) as actual, on_meta_device(), MetaRun():
        copy_to_meta(layer)(inputs.to("meta"))
    assert str(actual.value) == str(expected.value)


TYPES = st.sampled_from([torch.float32, torch.float64])
sizes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def operands(draw) -> tuple[Tensor, Tensor]:
    """Two tensors that broadcast, with their dimensions in any order in memory, some with gaps."""
    shape = draw(sizes)
    tensors = []
    for _ in range(2):
        shrunk = [draw(st.sampled_from([size, 1])) for size in shape][draw(st.integers(0, len(shape))) :]
        order = draw(st.permutations(range(len(shrunk))))
        gap = draw(st.sampled_from([1, 1, 2]))
        stored = torch.empty([*(shrunk[dim] for dim in order), gap], dtype=draw(TYPES), device="meta").select(-1, 0)
        tensors.append(stored.permute([order.index(dim) for dim in range(len(shrunk))]))
    return tensors[0], tensors[1]


ATEN = torch.ops.aten


def test_strides_of_size_1_dimensions_determine_the_result_layout() -> None:
    left = torch.empty_strided((3, 1, 2), (2, 1, 1), device="meta")
    right = torch.empty_strided((3, 1, 1, 1), (1, 3, 3, 3), device="meta")
    with Compare():
        ATEN.add.Tensor(left, right)


@settings(max_examples=300, deadline=None)
@given(operands(), st.data())
def test_any_layout(pair: tuple[Tensor, Tensor], data: st.DataObject) -> None:
    left, right = pair
    calls = [(op, (left, right)) for op in (ATEN.add.Tensor, ATEN.mul.Tensor, ATEN.div.Tensor)]
    calls += [(ATEN.mul.Scalar, (left, 2.0)), (ATEN.relu.default, (left,)), (ATEN.clamp.default, (left, 0, None))]
    calls += [(ATEN.clone.default, (left,))]
    if left.dim():
        dim = data.draw(st.integers(-left.dim(), left.dim() - 1))
        calls += [(ATEN.mean.dim, (left, [dim], keep)) for keep in (True, False)]
        calls += [(ATEN._softmax.default, (left, dim, False)), (ATEN.roll.default, (left, [1], [dim]))]
        calls += [(ATEN.cat.default, ([left, left], dim))]
        weight = torch.empty(left.shape[-1:], dtype=left.dtype, device="meta")
        calls += [(ATEN.native_layer_norm.default, (left, list(weight.shape), weight, weight, 1e-5))]
    if left.dim() == 2:
        calls += [(ATEN.mm.default, (left, left.t())), (ATEN.addmm.default, (left[:1, :1], left, left.t()))]
    if left.dim() == 3:
        calls += [(ATEN.bmm.default, (left, left.transpose(1, 2)))]
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
def test_mismatched_shapes_are_errors(call) -> None:
    with on_meta_device(), pytest.raises((RuntimeError, IndexError)), Compare():
        call(torch.empty(2, 3, 4, 4))
