"""The format `pt2`: a program of torch.export, which runs with torch alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from tickdsl.tickets.export_format import ExportFormat, ExportOptions, Subject
from tickdsl.tickets.formats.block_form import network_to_export
from tickdsl.tickets.formats.exported_program import export_program, quiet_torch
from tickdsl.tickets.formats.file_interface import interface_of
from tickdsl.tickets.formats.metadata import file_metadata
from tickdsl.tickets.formats.portable_verification import verify_portable

#: The name of the metadata among the file's `extra_files`: a JSON object of strings, see `file_metadata`.
METADATA_FILE = "ticket.json"


def write_pt2(subject: Subject, path: Path, options: ExportOptions) -> tuple[str, ...]:
    """Write a ticket and its metadata to `path`, and describe it. Raises TickdslError as `export_program` does."""
    ticket, network = subject.ticket, subject.network
    exported = network_to_export(subject, options)
    interface = interface_of(ticket, network, raw=options.raw, part=options.part)
    program = export_program(exported, ticket.preprocessing, interface, raw=options.raw, task=ticket.task)
    metadata = json.dumps(file_metadata(ticket, interface, raw=options.raw), indent=1)
    # Into memory: where a disk is full, torch's writer ends the process.
    content = io.BytesIO()
    with quiet_torch():
        torch.export.save(program, content, extra_files={METADATA_FILE: metadata})
    path.write_bytes(content.getbuffer())
    return (interface.in_words,)


def read_pt2_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file that `write_pt2` wrote."""
    extra_files = {METADATA_FILE: ""}
    torch.export.load(path, extra_files=extra_files)
    metadata: dict[str, str] = json.loads(extra_files[METADATA_FILE])
    return metadata


PT2 = ExportFormat("pt2", ".pt2", frozenset({"raw", "blocks", "part"}), write_pt2, verify_portable)
