"""How far compact networks are from what they must equal: values, gradients, in evaluation and in training."""

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
    """How far outputs, and inputs' gradients where asked for, of a compact network are from what they must equal
    (`error`), and how far the outputs are from the dense network's (`effect`); both in shares of the largest value."""

    error: float
    effect: float

    @property
    def exact(self) -> bool:
        """Whether they agree, and the comparison says something: far less than what the removal changed."""
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
    """Compare a compact network with `emptied`, in the mode that `model` is in: outputs, and the inputs' gradients.

    `dense` is what the model gives untouched. Without `gradients`, which take two thirds of the time, outputs alone.
    """
    small.train(model.training)
    if dense is None:
        with torch.no_grad():
            dense = outputs(model(*inputs))
    run = _run if gradients else _outputs
    found = run(small, {}, inputs)
    with emptied(model, small, graph, structure):
        wanted = run(model, {}, inputs)
    return Agreement(relative_difference(found, wanted), relative_difference(wanted[0], dense))


def gradient_difference(
    model: nn.Module, small: nn.Module, graph: ModelGraph, structure: Structure, inputs: tuple[Any, ...]
) -> float:
    """The largest difference of any parameter's or input's gradient from the kept part of that of `emptied`, in
    shares of its largest entry (at least 1e-9 of the largest gradient of all: of some only rounding is left)."""
    dense = dict(model.named_parameters())
    small.train(model.training)
    _, found = _run(small, dict(small.named_parameters()), inputs)
    with emptied(model, small, graph, structure):
        _, wanted = _run(model, {name: dense[name] for name in found if name in dense}, inputs)
    assert found.keys() == wanted.keys(), "a parameter that one network uses and the other does not"
    floor = 1e-9 * max(float(gradient.abs().max()) for gradient in wanted.values())
    worst = 0.0
    for name, gradient in wanted.items():
        if name in dense:
            for dim, index in enumerate(kept_indices(graph, structure, name)):
                gradient = gradient if index is None else gradient.index_select(dim, torch.from_numpy(index.copy()))
        gap = float((found[name] - gradient).abs().max())
        worst = max(worst, gap / max(float(gradient.abs().max()), floor))
    return worst


def _run(
    network: nn.Module, parameters: dict[str, nn.Parameter], inputs: tuple[Any, ...]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """All outputs, and the gradients of the sum of their squares by parameter and place of the input; unused ones are
    left out."""
    inputs = tuple(x.clone().requires_grad_() if isinstance(x, Tensor) else x for x in inputs)
    leaves = {str(place): x for place, x in enumerate(inputs) if isinstance(x, Tensor)}
    leaves |= {name: p for name, p in parameters.items() if p.requires_grad}
    results = outputs(network(*inputs))
    loss = sum(tensor.square().sum() for tensor in results)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    found = {name: gradient for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return [tensor.detach() for tensor in results], found


def _outputs(
    network: nn.Module, parameters: dict[str, nn.Parameter], inputs: tuple[Any, ...]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """`_run` without any gradients."""
    with torch.no_grad():
        return outputs(network(*inputs)), {}


def first_only(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A batch of one."""
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
    """A random third to half of one channel group is gone, for the first of the batch; for all of it, in training,
    where evaluation does not reach the group. `dense` is what the model gives for the first."""
    structure = random_thinning(graph, np.random.default_rng(seed).uniform(1 / 3, 1 / 2), seed, only=[group])
    small = compact(model, graph, structure)
    found = agreement(model, small, graph, structure, first_only(inputs), dense, gradients)
    if found.effect == 0:
        model.train()
        found = agreement(model, small, graph, structure, inputs, gradients=gradients)
        model.eval()
    return found


def block_agreement(
    model: nn.Module,
    graph: ModelGraph,
    inputs: tuple[Any, ...],
    block: str,
    dense: object = None,
    gradients: bool = True,
) -> Agreement:
    """One block is gone, for the first of the batch."""
    structure = Structure.dense(graph).remove_block(block)
    return agreement(model, compact(model, graph, structure), graph, structure, first_only(inputs), dense, gradients)
