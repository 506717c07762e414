"""Write a network as an ONNX file, in one piece, for onnxruntime and other runtimes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.tickets.formats.exported_program import (
    DYNAMIC_SHAPES,
    INPUT,
    OUTPUT,
    export_program,
    first_line,
    quiet_torch,
)
from tickdsl.tickets.formats.metadata import file_metadata
from tickdsl.tickets.ticket import Ticket

#: The version of ONNX's operators; onnxruntime runs it since 1.14 (2023).
OPSET = 18
#: A file of Protocol Buffers holds less than 2 GiB.
_MAX_BYTES = 2**31 - 2**20


def require_onnx() -> None:
    """Raise TickdslError if the packages of the extra `[onnx]` are missing."""
    for package in ("onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise TickdslError(
                f"--format onnx needs {package}, which is not installed", "install it: pip install 'tickdsl[onnx]'"
            )


def write_onnx(ticket: Ticket, path: Path, *, raw: bool = False, network: nn.Module | None = None) -> None:
    """Write a ticket and its metadata to `path`.

    raw: leave the normalisation out. network: that of the ticket, if it is at hand.

    Raises TickdslError if the extra `[onnx]` is missing, if the network is too large for the format, or if torch.export
    or ONNX cannot take it.
    """
    require_onnx()
    network = ticket.network() if network is None else network
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    if num_bytes > _MAX_BYTES:
        raise TickdslError(
            f"an ONNX file holds less than 2 GiB, and the weights take {num_bytes / 2**30:.1f} GiB",
            "use `--format pt2`",
        )
    program = export_program(network, ticket.preprocessing, raw=raw)
    try:
        with quiet_torch():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=DYNAMIC_SHAPES,
            )
    except Exception as error:  # torch raises classes of many kinds for what it cannot translate
        raise TickdslError(
            f"ONNX cannot take the network {type(network).__name__}: {_reason(error)}", "use `--format pt2`"
        ) from error
    assert exported is not None
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # paths of source files, among others
    exported.model.metadata_props.clear()
    exported.model.metadata_props.update(file_metadata(ticket, raw=raw))
    exported.model.producer_name = "tickdsl"
    exported.save(str(path), external_data=False)


def _reason(error: BaseException) -> str:
    """The first line of the error that was first in the chain, which names the operator."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
