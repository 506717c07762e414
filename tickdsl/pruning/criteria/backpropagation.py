"""Gradients of the loss with respect to the weights that can be pruned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import removed_parameters
from tickdsl.pruning.criteria.protocol import ScoringContext
from tickdsl.pruning.criteria.shared_batches import SharedBatches
from tickdsl.training.named_tensors import run_network
from tickdsl.training.tasks import joint_loss

#: Tensors by the name of a weight.
ByName = dict[str, Tensor]


def prunable_weights(context: ScoringContext, module: nn.Module) -> ByName:
    """The convolution and linear weights of a module that a criterion owns, made to require gradients.

    Frozen ones are scored by what flows through them, like all others.
    """
    removed = removed_parameters(context.graph, context.structure)
    parameters = dict(module.named_parameters())
    return {name: parameters[name].requires_grad_(True) for name in context.graph.weights if name not in removed}


def gradients(output: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False) -> ByName:
    """The gradients of a scalar by the name of the weight, without weights that it does not depend on."""
    if not output.requires_grad:
        return {}
    found = torch.autograd.grad(output, list(weights.values()), create_graph=create_graph, allow_unused=True)
    return {name: gradient for name, gradient in zip(weights, found, strict=True) if gradient is not None}


def mean_gradients(
    context: ScoringContext,
    module: nn.Module,
    weights: Mapping[str, Tensor],
    batches: SharedBatches,
    temperature: float = 1.0,
) -> ByName:
    """The gradients of the mean loss over all images."""
    totals: ByName = {}
    for batch_loss in batch_losses(context, module, batches, temperature):
        add_to(totals, gradients(batch_loss, weights))
    return batches.add_up_by_name(totals)


def batch_losses(
    context: ScoringContext, module: nn.Module, batches: SharedBatches, temperature: float = 1.0
) -> Iterable[Tensor]:
    """The loss of the outputs / temperature, by batch of this process; the sum of all is the mean over all images.

    With phases, the losses of all phases, each of which has a gradient for the weights that the phase trains alone.
    """
    for images, labels in batches.own:
        share = len(labels) / batches.images
        if context.phases:
            yield joint_loss(module, images, labels, context.phases) * share
            continue
        outputs = run_network(module, images)
        yield context.loss(outputs if temperature == 1 else outputs / temperature, labels) * share


def add_to(totals: ByName, addends: Mapping[str, Tensor]) -> None:
    """Add to the totals by name; names that are new start at 0."""
    for name, addend in addends.items():
        totals[name] = totals[name] + addend if name in totals else addend


def use_batch_statistics(module: nn.Module) -> nn.Module:
    """Set eval mode (so that dropout is off), but let batch norm use batch statistics."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.train()
    return module


def has_initial_statistics(module: nn.Module) -> bool:
    """Whether no batch norm of the module has seen an image: all running means are 0 and all variances 1."""
    return all(
        not layer.running_mean.any() and bool((layer.running_var == 1).all())
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        and layer.running_mean is not None
        and layer.running_var is not None
    )


def require_scores(names: Iterable[str], scores: Mapping[str, Tensor], by: str) -> None:
    """Raise TickdslError if a weight has no score, because the output does not depend on it."""
    missing = [name for name in names if name not in scores]
    if missing:
        layers = ", ".join(name.removesuffix(".weight") for name in missing[:3])
        raise TickdslError(
            f"`by {by}` cannot rank {layers}{' and others' if missing[3:] else ''}: no gradient reaches "
            f"{'them' if missing[1:] else 'it'}",
            "use another criterion, exclude these layers with `except`, or remove `torch.no_grad` from the network",
        )
