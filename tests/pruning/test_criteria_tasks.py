"""Criteria score by the loss of the task."""

from __future__ import annotations

import copy

import attrs
import pytest
import torch
from criteria_helpers import make_subject, trace_module
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.pruning.criteria import ScoringContext, get_criterion
from tickdsl.training.tasks import Regress

SHAPE = (1, 4, 4)


def subject(batches: int = 1) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], ScoringContext]:
    """A float64 network with two outputs, images with two numbers each, and their scoring context."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    graph = trace_module(module, SHAPE)
    module = module.double()
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(12, *SHAPE, generator=draw, dtype=torch.float64)
    targets = torch.randn(12, 2, generator=draw, dtype=torch.float64)
    parts = list(zip(images.chunk(batches), targets.chunk(batches), strict=True))
    context = make_subject(module, graph, batches=parts, shape=SHAPE)
    return module, [(images, targets)], attrs.evolve(context, loss=Regress().loss, logits=False)


def first_order(module: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """w · dL/dw for the squared error."""
    copied = copy.deepcopy(module)
    torch.autograd.backward(F.mse_loss(copied(images), targets))
    return {name: (weight * weight.grad).detach() for name, weight in copied.named_parameters() if weight.dim() > 1}


@pytest.mark.parametrize("batches", [1, 3])
def test_snip_is_the_sensitivity_of_the_squared_error(batches: int) -> None:
    module, [(images, targets)], context = subject(batches)
    expected = first_order(module, images, targets)
    scores = get_criterion("snip").weights(context, list(expected))
    for name, score in zip(expected, scores, strict=True):
        torch.testing.assert_close(score, expected[name].abs().flatten(), rtol=1e-9, atol=1e-12)


def test_taylor_is_the_squared_first_order_change_of_the_squared_error() -> None:
    module, [(images, targets)], context = subject()
    expected = first_order(module, images, targets)
    for name, score in zip(expected, get_criterion("taylor").weights(context, list(expected)), strict=True):
        torch.testing.assert_close(score, expected[name].square().flatten(), rtol=1e-9, atol=1e-12)


def test_grasp_divides_no_output_that_is_no_logit() -> None:
    """With an explicit Hessian of the squared error."""
    module, [(images, targets)], context = subject()
    names = list(context.graph.weights)
    shapes = [module.state_dict()[name].shape for name in names]
    start = torch.cat([module.state_dict()[name].flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        outputs = torch.func.functional_call(module, {**dict(module.state_dict()), **values}, (images,))
        return F.mse_loss(outputs, targets)

    gradient = torch.autograd.functional.jacobian(loss, start)
    expected = start * (torch.autograd.functional.hessian(loss, start) @ gradient)
    torch.testing.assert_close(
        torch.cat(get_criterion("grasp").weights(context, names)), expected, rtol=1e-7, atol=1e-12
    )


def test_halves_of_the_classes_need_classes() -> None:
    _, _, context = subject()
    with pytest.raises(TickdslError, match="`by grasp-halves` halves the classes, but the data have none"):
        get_criterion("grasp-halves").weights(context, list(context.graph.weights))
