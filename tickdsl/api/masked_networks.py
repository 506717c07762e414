"""`tickdsl.from_masks`: takes over a network that was pruned with `torch.nn.utils.prune`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tickdsl.api.constant_inputs import capture_inputs
from tickdsl.api.dense_subject import DenseSubject, State
from tickdsl.api.prune_requirements import require_traceable
from tickdsl.api.pruning import PruningWarning
from tickdsl.api.silent_units import SilentUnits
from tickdsl.api.torch_masks import has_masks, unmasked_tensors
from tickdsl.errors import TickdslError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import slice_state_dict
from tickdsl.plurals import plural

#: What to do with masked channels whose outputs are constants other than zero.
Constants = Literal["keep", "drop"]


def from_masks(model: nn.Module, example_inputs: Any, *, constants: Constants = "keep") -> nn.Module:
    """Take over a network that was pruned with `torch.nn.utils.prune`: masked channels are removed physically.

    A channel is removed if no layer reads it through a weight that is left, or if its own weights are all masked and
    its output is therefore a constant: zero, or one that can be added to the biases of the layers that read it. What
    cannot be removed stays masked by `torch.nn.utils.prune`, and so stays zero while the network trains. In eval mode,
    the outputs equal those of the masked network, up to rounding. The network itself is not changed.

    A filter whose weights are masked, but not its bias or the shift of its batch norm, has a constant output. A layer
    with zero padding reads it as zeros at the border, so it cannot become a bias; such filters are kept, and
    PruningWarning says how many. Mask the bias or shift too, or pass `constants="drop"`.

    Args:
        model: The masked network.
        example_inputs: A tensor, a tuple of positional arguments, or a dictionary of keyword arguments of `forward`.
        constants: `drop` also removes masked channels whose constant output cannot become a bias, as other tools do.
            The outputs then equal those of the masked network whose layers read zeros instead.

    Returns:
        The smaller network, of the same class; `structure_of` tells what it keeps.

    Raises:
        TickdslError: The network has no masks, or cannot be traced.
    """
    if constants not in ("keep", "drop"):
        raise TickdslError(f"`constants` cannot be {constants!r}", "it is `keep` or `drop`")
    require_traceable(model, example_inputs)
    if not has_masks(model):
        raise TickdslError(
            "the network has no masks of `torch.nn.utils.prune`",
            "call `from_masks` before `torch.nn.utils.prune.remove`; to prune a network, use `tickdsl.prune`",
        )
    with torch.autograd.inference_mode(mode=False), torch.no_grad():
        subject = DenseSubject.from_model(model, example_inputs)
        zeroed = subject.with_zeros(subject.structure)
        biases = frozenset(subject.graph.parameters.keys() - subject.structure.masks.keys())
        inputs = capture_inputs(zeroed, subject.graph, example_inputs)
        silent = SilentUnits(subject.graph, unmasked_tensors(zeroed), inputs, biases, drop=constants == "drop")
        structure = silent.remove_from(subject.structure)
        network = subject.with_masks(structure, _shifted_state(subject, structure, silent.shifts))
    if silent.constant:
        names = ", ".join(f"`{name}` ({count})" for name, count in list(silent.constant.items())[:3])
        warnings.warn(
            f"{plural(sum(silent.constant.values()), 'masked channel')} stay, of {names}"
            f"{' and others' if len(silent.constant) > 3 else ''}: their outputs are constants that cannot be added to "
            "the biases of the layers that read them; mask the bias, or the batch norm's weight and bias, as well, or "
            'pass `constants="drop"`',
            PruningWarning,
            stacklevel=2,
        )
    return network


def _shifted_state(subject: DenseSubject, structure: Structure, shifts: Mapping[str, Tensor]) -> State | None:
    """The tensors of the compact network, with shifted biases; None if no bias is shifted."""
    if not shifts:
        return None
    graph = subject.graph
    tensors = {
        name: tensor + shifts[canonical].to(tensor)
        if (canonical := graph.aliases.get(name, name)) in shifts
        else tensor
        for name, tensor in unmasked_tensors(subject.network).items()
    }
    return slice_state_dict(graph, tensors, subject.structure, structure)
