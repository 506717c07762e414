"""Compares compact networks with their references: outputs and gradients, in eval and training mode."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from graph_oracle import emptied, outputs, random_thinning, relative_difference
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, Structure, compact, kept_indices


@attrs.frozen
class Agreement:
    """The difference of a compact network from its reference (`error`) and from the dense network (`effect`).

    Both are relative to the largest value. `error` covers outputs and, if requested, input gradients; `effect` covers
    outputs.
    """

    error: float
    effect: float

    @property
    def exact(self) -> bool:
        """Whether they agree, to far less than the effect of the removal."""
        return self.error < 1e-6 and self.error < 1e-3 * self.effect


def agreement(
    model: nn.Module,
    small: nn.Module,
    graph: ModelGraph,
    structure: Structure,
    inputs: tuple[Any, ...],
    dense: object = None,
    gradients: bool = True,
) -> Agreement:
    """Compare a compact network with `emptied`, in the mode of `model`: outputs and input gradients.

    `dense` are the outputs of the dense model, if known. Gradients take two thirds of the time; `gradients=False`
    compares outputs only.
    """
    small.train(model.training)
    if dense is None:
        with torch.no_grad():
            dense = outputs(model(*inputs))
    run = _run if gradients else _outputs
    result = run(small, {}, inputs)
    with emptied(model, small, graph, structure):
        expected = run(model, {}, inputs)
    return Agreement(relative_difference(result, expected), relative_difference(expected[0], dense))


def gradient_difference(
    model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure, inputs: tuple[Any, ...]
) -> float:
    """The largest relative difference of a parameter or input gradient from the kept part of that of `emptied`.

    It is relative to the gradient's largest entry, but at least to 1e-9 of the largest entry of all gradients, since
    some gradients are only rounding error.
    """
    dense = dict(model.named_parameters())
    small.train(model.training)
    _, result = _run(small, dict(small.named_parameters()), inputs)
    with emptied(model, small, graph, structure):
        _, expected = _run(model, {name: dense[name] for name in result if name in dense}, inputs)
    assert result.keys() == expected.keys(), "a parameter that one network uses and the other does not"
    floor = 1e-9 * max(float(gradient.abs().max()) for gradient in expected.values())
    largest = 0.0
    for name, gradient in expected.items():
        if name in dense:
            for dim, index in enumerate(kept_indices(graph, structure, name)):
                gradient = gradient if index is None else gradient.index_select(dim, torch.from_numpy(index.copy()))
        difference = float((result[name] - gradient).abs().max())
        largest = max(largest, difference / max(float(gradient.abs().max()), floor))
    return largest


def _run(
    network: nn.Module, parameters: dict[str, nn.Parameter], inputs: tuple[Any, ...]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """All outputs, and the gradients of their sum of squares by parameter name and input index, without unused ones."""
    inputs = tuple(x.clone().requires_grad_() if isinstance(x, Tensor) else x for x in inputs)
    leaves = {str(place): x for place, x in enumerate(inputs) if isinstance(x, Tensor)}
    leaves |= {name: p for name, p in parameters.items() if p.requires_grad}
    results = outputs(network(*inputs))
    loss = sum(tensor.square().sum() for tensor in results)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    result = {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return [tensor.detach() for tensor in results], result


def _outputs(
    network: nn.Module, parameters: dict[str, nn.Parameter], inputs: tuple[Any, ...]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Like `_run`, without gradients."""
    with torch.no_grad():
        return outputs(network(*inputs)), {}


def first_only(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first example of the batch, as a batch of one."""
    return tuple(x[:1] if isinstance(x, Tensor) else x for x in inputs)


def group_agreement(
    model: nn.Module,
    graph: ModelGraph,
    inputs: tuple[Any, ...],
    group: str,
    seed: int,
    dense: object = None,
    gradients: bool = True,
) -> Agreement:
    """Remove a random third to half of one channel group, and compare on the first example.

    A group that is not used in eval mode is compared in training mode on the whole batch. `dense` are the outputs of
    the dense model for the first example, if known.
    """
    structure = random_thinning(graph, np.random.default_rng(seed).uniform(1 / 3, 1 / 2), seed, only=[group])
    small = compact(model, graph, structure)
    result = agreement(model, small, graph, structure, first_only(inputs), dense, gradients)
    if result.effect == 0:
        model.train()
        result = agreement(model, small, graph, structure, inputs, gradients=gradients)
        model.eval()
    return result


def block_agreement(
    model: nn.Module,
    graph: ModelGraph,
    inputs: tuple[Any, ...],
    block: str,
    dense: object = None,
    gradients: bool = True,
) -> Agreement:
    """Remove one block, and compare on the first example."""
    structure = Structure.dense(graph).remove_block(block)
    return agreement(model, compact(model, graph, structure), graph, structure, first_only(inputs), dense, gradients)
