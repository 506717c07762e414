"""The formats of `tickdsl export` by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tickdsl.tickets.export_format import ExportFormat, ExportOptions, Subject
from tickdsl.tickets.formats.onnx import ONNX
from tickdsl.tickets.formats.pt2 import PT2
from tickdsl.tickets.formats.state_dict import verify_state_dict, write_state_dict
from tickdsl.tickets.ticket_file import ticket_bytes, write_ticket
from tickdsl.tickets.verification import verify_ticket


def _write_ticket(subject: Subject, path: Path, options: ExportOptions) -> tuple[str, ...]:
    size = write_ticket(subject.ticket, path, sparse=options.sparse)
    if not options.sparse:
        return ()
    saved = len(ticket_bytes(subject.ticket)) - size
    if saved > 0:
        return (f"--sparse saves {saved:,} bytes of {saved + size:,}",)
    return ("--sparse saves nothing: this network has no masked weights that would be smaller compressed",)


FORMATS: Mapping[str, ExportFormat] = {
    known.name: known
    for known in (
        ExportFormat("ticket", ".safetensors", frozenset({"sparse"}), _write_ticket, verify_ticket),
        PT2,
        ONNX,
        ExportFormat("state-dict", "", frozenset({"part"}), write_state_dict, verify_state_dict),
    )
}
