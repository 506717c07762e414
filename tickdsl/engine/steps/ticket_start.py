"""The structure and the weights of the ticket that a plan starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tickdsl.engine.dense_networks import DenseNetwork
from tickdsl.engine.steps.context import Context
from tickdsl.engine.steps.initial_weights import verify_digest
from tickdsl.errors import TicketError
from tickdsl.graph.structure import Structure
from tickdsl.graph.surgery.compact import compact, slice_state_dict
from tickdsl.plan.steps import Step
from tickdsl.pruning import ticket_content
from tickdsl.pruning.transfer import transfer_part, transfer_structure
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.models import classifier_path
from tickdsl.training.part_map import PartMap

#: The largest difference of means and deviations that rounding can explain.
_ROUNDING = 1e-4


def starts_from_ticket(options: Mapping[str, Any]) -> bool:
    """Whether the initial weights of a network with these options are a ticket."""
    return "weights" in options and ticket_content.is_ticket(Path(options["weights"]))


def ticket_structure(step: Step, context: Context, network: DenseNetwork) -> Structure:
    """The structure of the ticket. Warns if it was trained on data that are prepared in another way.

    Raises TicketError if the ticket is damaged or does not fit the network.
    """
    content, part = _read(step.args["model"]), PartMap.of_model(step.args["model"]["options"])
    if part is not None:
        return transfer_part(content.structure, network.graph, part, step.args["model"]["options"]["weights"])
    for difference in _differences(content.about, context.dataset(step.args["data"], step.seed)):
        context.hooks.step_warning(step.key, difference)
    return transfer_structure(content.structure, network.graph)


def ticket_weights(
    step: Step, network: DenseNetwork, fresh: nn.Module, target: Structure
) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of the ticket for a structure that is nested in its own, and the names of those that are fresh.

    fresh: the dense network with fresh weights, which the classifier keeps if the ticket has other classes.
    """
    content = _read(step.args["model"])
    if (part := PartMap.of_model(step.args["model"]["options"])) is not None:
        return _part_weights(step, network, fresh, target, content, part)
    base = transfer_structure(content.structure, network.graph)
    state = compact(fresh, network.graph, base).state_dict()
    head = f"{classifier_path(network.module)}."
    differing = [
        name for name in {*state, *content.weights}
        if name not in state or name not in content.weights or state[name].shape != content.weights[name].shape
    ]  # fmt: skip
    wrong = sorted(name for name in differing if not name.startswith(head))
    if wrong:
        raise TicketError(
            f"the ticket {step.args['model']['options']['weights']} does not fit {step.args['model']['name']}: "
            f"`{wrong[0]}` differs",
            "use the tickdsl and the code of the network that it was written with, or export it again",
        )
    fresh_names = sorted(name for name in state if differing and name.startswith(head))
    state |= {name: tensor for name, tensor in content.weights.items() if name not in fresh_names and name in state}
    return slice_state_dict(network.graph, state, base, target), fresh_names


def _part_weights(
    step: Step,
    network: DenseNetwork,
    fresh: nn.Module,
    target: Structure,
    content: ticket_content.TicketContent,
    part: PartMap,
) -> tuple[dict[str, Tensor], list[str]]:
    """Fresh weights, with those of the ticket in the parts that they are mapped to."""
    weights = step.args["model"]["options"]["weights"]
    base = transfer_part(content.structure, network.graph, part, weights)
    state = compact(fresh, network.graph, base).state_dict()
    found, expected = (
        {name: tuple(tensor.shape) for name, tensor in each.items()} for each in (content.weights, state)
    )
    part.fit(found, expected, weights)
    known = part.rename(content.weights, state, weights)
    fresh_names = sorted(name for name in state if name not in known)
    return slice_state_dict(network.graph, state | known, base, target), fresh_names


def _read(model: Mapping[str, Any]) -> ticket_content.TicketContent:
    content = ticket_content.read(Path(model["options"]["weights"]))
    verify_digest(model)
    return content


def _differences(about: Mapping[str, Any], data: Dataset) -> list[str]:
    """What a ticket and a data set do not have in common, as sentences."""
    found = []
    preprocessing = about.get("preprocessing", {})
    known = [*preprocessing.get("mean", ()), *preprocessing.get("std", ())]
    ours = [*data.mean.tolist(), *data.std.tolist()]
    if len(known) == len(ours) and any(abs(a - b) > _ROUNDING for a, b in zip(known, ours, strict=True)):
        found.append("the ticket was trained on images with another mean and deviation: its accuracy here may differ")
    if (classes := tuple(about.get("classes", ()))) and sorted(classes) != sorted(data.class_names):
        found.append(
            f"the ticket was trained for other classes ({_brief(classes)}) than those here ({_brief(data.class_names)})"
        )
    elif classes and classes != tuple(data.class_names):
        found.append("the ticket was trained with its classes in another order")
    return found


def _brief(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
