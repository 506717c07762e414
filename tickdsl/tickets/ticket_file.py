"""Write a ticket to one `.safetensors` file, and read it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from tickdsl.argument_types import require_path
from tickdsl.errors import TicketError
from tickdsl.pruning import ticket_content
from tickdsl.pruning.ticket_content import TicketContent
from tickdsl.records.canonical import json_safe
from tickdsl.records.files import write_atomically
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.outputs import OutputInfo
from tickdsl.tickets.preprocessing import preprocessing_from_json
from tickdsl.tickets.ticket import Origin, Ticket

_PROBE = "probe"


def load(path: Path | str, network: nn.Module | Callable[..., nn.Module] | None = None) -> nn.Module:
    """The network of a ticket, compact, with its weights, in eval mode, on the CPU.

    It takes images or tokens as `open_ticket(path).preprocess` prepares them. network: the dense network of the user or
    its factory, `(classes, shape, **options) -> nn.Module`, for a network that is not in the catalogue.

    Raises TicketError if the file is missing, damaged or not a ticket, or if the network is missing or was changed.
    """
    return open_ticket(path).network(network)


def open_ticket(path: Path | str) -> Ticket:
    """Read the ticket that `tickdsl export` wrote to `path`, without building its network.

    Raises TicketError if the file is missing, damaged, or not a ticket of this version.
    """
    path = require_path(path, "path", "name the .safetensors file that `tickdsl export` wrote")
    content = ticket_content.read(path)
    try:
        return _from_content(content)
    except (KeyError, TypeError, ValueError) as error:
        raise TicketError(
            f"{path} is damaged: its description is not valid ({type(error).__name__}: {error})",
            "export it again, or copy it again from where it was written",
        ) from error


def write_ticket(ticket: Ticket, path: Path, *, sparse: bool = False) -> int:
    """Write a ticket to `path`, atomically, and return the number of bytes.

    sparse: store masked weights compressed, where that is smaller. Raises TickdslError if the file cannot be written.
    """
    content = ticket_bytes(ticket, sparse=sparse)
    write_atomically(path, content)
    return len(content)


def ticket_bytes(ticket: Ticket, *, sparse: bool = False) -> bytes:
    """The file of a ticket; see `write_ticket`."""
    extras = {} if ticket.probe is None else {_PROBE: ticket.probe}
    return ticket_content.to_bytes(
        TicketContent(_description(ticket), ticket.structure, ticket.weights, extras), sparse=sparse
    )


def _description(ticket: Ticket) -> dict[str, Any]:
    """The fields of a ticket that are not tensors, as JSON values."""
    description: dict[str, Any] = json_safe(
        {
            "network": attrs.asdict(ticket.source),
            "preprocessing": ticket.preprocessing.as_json(),
            "classes": list(ticket.classes),
            "task": ticket.task,
            "outputs": [attrs.asdict(output) for output in ticket.outputs],
            "metrics": ticket.metrics,
            "plan": ticket.plan,
            "origin": attrs.asdict(ticket.origin),
            "versions": ticket.versions,
        }
    )
    return description


def _from_content(content: TicketContent) -> Ticket:
    about: Mapping[str, Any] = content.about
    probe = content.extras.get(_PROBE)
    return Ticket(
        source=NetworkSource(**about["network"]),
        structure=content.structure,
        weights=content.weights,
        preprocessing=preprocessing_from_json(about["preprocessing"]),
        classes=tuple(about["classes"]),
        task=about.get("task", "classify"),
        outputs=tuple(
            OutputInfo(str(each["name"]), tuple(each["shape"]), str(each["meaning"]))
            for each in about.get("outputs", ())
        ),
        metrics=about["metrics"],
        plan=about["plan"],
        origin=Origin(**about["origin"]),
        versions=about["versions"],
        probe=None if probe is None else probe.to(torch.float32),
    )
