"""Run a ticket on the inputs of a data set in a fresh process, as its user would.

    python run_ticket.py FILE FOLDER SETTINGS

FOLDER: holds the inputs, such as images uint8 [N, C, H, W], or several by name, in `inputs.pt`; gets a list of the
network's outputs, float32 [N, …], in `outputs.pt`.
SETTINGS: a JSON object with `device`, `threads`, `layout`, `precision` and `allow_code`. This is a script.
"""

import json
import sys
from pathlib import Path


def main(file: str, folder: str, settings: str) -> None:
    """Load the ticket, run it, and write its outputs."""
    import torch

    from tickdsl.errors import TickdslError
    from tickdsl.plugins import allow_code
    from tickdsl.tickets.export_format import TestConditions
    from tickdsl.tickets.outputs import leaves
    from tickdsl.tickets.ticket_file import open_ticket
    from tickdsl.tickets.verification import network_outputs
    from tickdsl.training.named_tensors import NamedTensors
    from tickdsl.training.tasks import find_task

    known = json.loads(settings)
    if known.pop("allow_code"):
        allow_code()
    inputs = torch.load(Path(folder) / "inputs.pt", weights_only=True, mmap=True)
    inputs = NamedTensors(inputs) if isinstance(inputs, dict) else inputs
    try:
        ticket = open_ticket(file)
        task = find_task(ticket.task)
        outputs = network_outputs(ticket.network(), ticket.preprocessing, inputs, TestConditions(**known), task)
    except TickdslError as error:
        sys.exit(error.message)
    torch.save(list(leaves(outputs)), Path(folder) / "outputs.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
