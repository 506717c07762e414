"""`tickdsl.prune`: prunes a network of the user's own in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tickdsl.api.batches import sampler
from tickdsl.api.dense_subject import DenseSubject, State
from tickdsl.api.prune_arguments import (
    Amount,
    By,
    Exclude,
    PruneArguments,
    Scope,
    Unit,
    read_arguments,
)
from tickdsl.api.prune_loss import OwnLoss, PruneLoss, input_shape, read_loss
from tickdsl.api.prune_requirements import require_matching_patterns, require_scope, require_traceable
from tickdsl.api.torch_masks import unmasked_tensors
from tickdsl.errors import TickdslError
from tickdsl.graph.indexing import all_kept_indices
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.plurals import plural
from tickdsl.pruning.cost_targets import Target
from tickdsl.pruning.criteria import Criterion, ScoringContext
from tickdsl.pruning.ranked_order import removal_order
from tickdsl.pruning.removal_order import counted_step, prune_to_count, prune_to_target
from tickdsl.pruning.scope import find_scope
from tickdsl.pruning.selection import prune as prune_units
from tickdsl.training.tasks import Task

#: Trains a network between rounds; it may return the network.
Between = Callable[[nn.Module], nn.Module | None]


class PruningWarning(UserWarning):
    """Something that was asked of a pruning and is possible in part only."""


def prune(
    model: nn.Module,
    example_inputs: Any,
    amount: Amount = "50%",
    *,
    unit: Unit = "filters",
    scope: Scope = "global",
    by: By = "l2",
    target: Target | None = None,
    data: Iterable[Any] | None = None,
    loss: OwnLoss | None = None,
    task: str | Task | None = None,
    exclude: Exclude = (),
    multiple: int = 1,
    rounds: int = 1,
    between: Between | None = None,
    seed: int = 0,
) -> nn.Module:
    """Prune a network: channels and layers are removed physically, single weights are masked.

    The network itself is not changed. What is returned is a smaller network of the same class, with the same names,
    attributes, methods, hooks, mode, device, dtypes and `requires_grad`. Its outputs equal those of the network whose
    layers read zeros instead of the removed channels; norms of layers and weights are taken over what is left. Where
    this cannot be guaranteed, channels are kept, or the network is refused.

    Single weights (`unit="weights"`) are masked by `torch.nn.utils.prune`, so they stay zero while the network trains;
    `torch.nn.utils.prune.remove` makes the zeros permanent. A network that has such masks may be pruned further.

    Args:
        model: The network.
        example_inputs: A tensor, a tuple of positional arguments, or a dictionary of keyword arguments of `forward`.
            Only shapes and dtypes matter (and the values of integers).
        amount: What to remove in all rounds together: a share ("50%" or 0.5) or a number (8) of the units that are not
            excluded, or of the units of each layer with `scope="local"`. A dictionary from patterns of layers to shares
            sets them by layer, and the first pattern that matches counts. With `target`, the share of that.
        unit: `filters` (output channels of convolutions), `neurons` (of linear layers), `channels` (both, and the
            channels within attention heads), `heads`, `head-dims`, `weights` or `layers`.
        scope: `global` ranks the units of all layers together, `local` those of each layer by themselves.
        by: The criterion, by its name in plans: `l1`, `l2`, `magnitude`, `fpgm`, `bn-scale`, `taylor`, `snip`, `hrank`,
            `random` and others; a function from the weights of units [units, weights] to scores [units]; or a
            `tickdsl.extending.Criterion`. Units with the lowest scores are removed.
        target: `flops` or `params`: `amount` is the share of the dense network's FLOPs or parameters to remove. It is
            exceeded by less than one unit (or `multiple`).
        data: A loader of pairs (inputs, targets), for criteria that need data. As many first examples are used as the
            criterion's paper does; give fewer batches to use fewer. Inputs are a tensor, or like `example_inputs`.
        loss: The mean loss of the outputs, whatever the network returns, and the targets, for criteria that need
            gradients (default: that of the task).
        task: What the network learns, instead of a loss: "classify" (default), "regress" or another task of plans, or
            a `tickdsl.extending.Task`.
        exclude: Layers to keep whole: patterns of paths ("fc", "layer1.*.conv2", "**.downsample"), or modules. A layer
            is kept with all layers that are coupled with it.
        multiple: The widths of pruned layers are multiples of it, as far as they can be; PruningWarning names others.
            With `heads`, the number of heads is; with `head-dims`, that of the dims in a head.
        rounds: The amount is removed in so many equal steps, each ranked anew.
        between: Called with the smaller network between two rounds, to train it. It changes the network in place, and
            returns it or None. Optimisers are made anew for each call, since the parameters are new ones.
        seed: Seeds `by="random"`.

    Returns:
        The smaller network. It can be trained, saved and exported like any other; `structure_of` tells what it keeps.

    Raises:
        TickdslError: The network cannot be traced or the arguments do not fit it; the message says what to change.
    """
    require_traceable(model, example_inputs)
    arguments = read_arguments(model, amount, unit, scope, by, target, exclude, multiple, rounds, between)
    criterion_loss = read_loss(loss, task)
    _require_inputs_of_criterion(arguments.criterion, data, example_inputs)
    with torch.autograd.inference_mode(mode=False), torch.enable_grad():
        subject = DenseSubject.from_model(model, example_inputs)
        require_matching_patterns(subject.graph, arguments)
        require_scope(subject.graph, subject.structure, arguments)
        scoring = _scoring(subject, example_inputs, data, criterion_loss, seed)
        structure = subject.structure
        state: State | None = None
        for number in range(rounds):
            smaller = _prune_round(scoring(structure, state), arguments, subject.structure, number)
            if rounds > 1:
                state = slice_state_dict(subject.graph, state or unmasked_tensors(subject.network), structure, smaller)
            structure = smaller
            if between is not None and number < rounds - 1:
                state = _train_between(between, subject.with_masks(structure, state))
        network = subject.with_masks(structure, state)
    if multiple > 1:
        _warn_of_widths(subject, structure, arguments)
    return network


def _require_inputs_of_criterion(criterion: Criterion, data: Iterable[Any] | None, example_inputs: Any) -> None:
    if "data" in criterion.needs and data is None:
        raise TickdslError(
            f"`by={criterion.name}` needs data", "pass `data=loader`, which returns pairs of inputs and targets"
        )
    example = _only(example_inputs)
    by_name = isinstance(example, Mapping) and all(isinstance(each, Tensor) for each in example.values())
    if "network" in criterion.needs and not isinstance(example, Tensor) and not by_name:
        raise TickdslError(
            f"`by={criterion.name}` runs the network on a tensor, or on tensors by name, and this network takes other "
            "inputs",
            "use another criterion",
        )


def _only(example_inputs: Any) -> Any:
    return example_inputs[0] if isinstance(example_inputs, tuple) and len(example_inputs) == 1 else example_inputs


def _scoring(
    subject: DenseSubject,
    example_inputs: Any,
    data: Iterable[Any] | None,
    loss: PruneLoss,
    seed: int,
) -> Callable[[Structure, State | None], ScoringContext]:
    """A function that makes the scoring context of a structure, and of its weights after training."""
    graph = subject.graph
    heads = [info.shape[0] for info in graph.weights.values() if info.is_output]
    device = next((parameter.device for parameter in subject.network.parameters()), torch.device("cpu"))
    draw = sampler(data, classes=heads[-1] if heads else 10, device=device)
    example = _only(example_inputs)
    shape = input_shape(subject.network, example)
    generator = torch.Generator().manual_seed(seed)

    def context(structure: Structure, state: State | None) -> ScoringContext:
        own_state = unmasked_tensors(subject.network) if state is None else state

        def network(target: Structure) -> nn.Module:
            sliced = None if state is None else slice_state_dict(graph, own_state, structure, target)
            return subject.with_zeros(target, sliced)

        on_cpu = {name: tensor.detach().cpu() for name, tensor in own_state.items()}
        return ScoringContext(graph, structure, on_cpu, generator, shape, network, draw, loss, loss.logits)

    return context


def _prune_round(context: ScoringContext, arguments: PruneArguments, start: Structure, number: int) -> Structure:
    args = arguments.for_round(context.graph, start, number)
    if arguments.target is not None and arguments.share is not None:
        share = arguments.share * (number + 1) / arguments.rounds
        order = removal_order(context, args, arguments.multiple)
        return prune_to_target(order, context.graph, args, share, arguments.target)
    if arguments.multiple == 1:
        return prune_units(context, args)
    pruned = prune_to_count(removal_order(context, args, arguments.multiple), context.graph, args)
    if pruned is None:
        raise TickdslError(
            f"this round would remove nothing: no layer can lose channels and keep a multiple of {arguments.multiple}",
            "use a larger amount, a smaller `multiple`, or fewer rounds",
        )
    return pruned


def _train_between(between: Between, network: nn.Module) -> State:
    """Let the user train a network; returns its weights afterwards. Raises TickdslError if it is another network."""
    before = {name: tensor.shape for name, tensor in unmasked_tensors(network).items()}
    returned = between(network)
    network = network if returned is None else returned
    if not isinstance(network, nn.Module):
        raise TickdslError(
            f"`between` returned a {type(network).__name__}", "return the network that it was given, or nothing"
        )
    state = unmasked_tensors(network)
    if {name: tensor.shape for name, tensor in state.items()} != before:
        raise TickdslError(
            "`between` returned a network with other parameters",
            "train the network that it is given; return it, without a wrapper, or nothing",
        )
    return {name: tensor.detach() for name, tensor in state.items()}


def _warn_of_widths(subject: DenseSubject, structure: Structure, arguments: PruneArguments) -> None:
    """Warn of layers whose widths are no multiples, and of those that are too narrow to be pruned."""
    graph, multiple = subject.graph, arguments.multiple
    pools = find_scope(graph, subject.structure, arguments.scope_arguments()).pools
    dense = {pool.name: pool.original * counted_step(graph.group(pool.name), arguments.unit) for pool in pools}
    narrow = {name: width for name, width in dense.items() if name not in structure.kept and 1 < width <= multiple}
    reasons = (
        ("kept whole, being no wider", narrow),
        ("of another width, since a part of the channels cannot be pruned", _uneven_widths(graph, structure, multiple)),
    )
    for reason, widths in reasons:
        if widths:
            names = ", ".join(f"`{name}` ({width})" for name, width in list(widths.items())[:3])
            warnings.warn(
                f"`multiple={multiple}`: {plural(len(widths), 'layer')} {reason}: {names}"
                f"{' and others' if len(widths) > 3 else ''}",
                PruningWarning,
                stacklevel=3,
            )


def _uneven_widths(graph: ModelGraph, structure: Structure, multiple: int) -> dict[str, int]:
    """The layers that lost output channels and have a number that is no multiple left, with this number."""
    indices: Mapping[str, Any] = all_kept_indices(graph, structure)
    rows = {name: indices[name][0] for name in graph.weights if name in indices}
    return {
        graph.weights[name].module: len(kept)
        for name, kept in rows.items()
        if kept is not None and len(kept) % multiple
    }
