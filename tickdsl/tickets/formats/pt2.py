"""Write a network as a `.pt2` file of torch.export, which runs with torch alone."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from tickdsl.tickets.formats.exported_program import export_program, quiet_torch
from tickdsl.tickets.formats.metadata import file_metadata
from tickdsl.tickets.ticket import Ticket

#: The name of the metadata among the file's `extra_files`: a JSON object of strings.
METADATA_FILE = "ticket.json"


def write_pt2(ticket: Ticket, path: Path, *, raw: bool = False, network: nn.Module | None = None) -> None:
    """Write a ticket and its metadata to `path`. Raises TickdslError as `export_program` does.

    raw: leave the normalisation out. network: that of the ticket, if it is at hand.
    """
    network = ticket.network() if network is None else network
    program = export_program(network, ticket.preprocessing, raw=raw)
    metadata = json.dumps(file_metadata(ticket, raw=raw), indent=1)
    with quiet_torch():
        torch.export.save(program, path, extra_files={METADATA_FILE: metadata})


def read_pt2_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file that `write_pt2` wrote."""
    extra_files = {METADATA_FILE: ""}
    torch.export.load(path, extra_files=extra_files)
    metadata: dict[str, str] = json.loads(extra_files[METADATA_FILE])
    return metadata
