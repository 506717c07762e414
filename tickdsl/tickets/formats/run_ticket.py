"""Run a ticket on images in a fresh process, as its user would.

    python run_ticket.py FILE FOLDER SETTINGS

FOLDER: holds the images, uint8 [N, C, H, W], in `images.pt`; gets the logits, float32 [N, classes], in `logits.pt`.
SETTINGS: a JSON object with `device`, `threads`, `layout`, `precision` and `allow_code`. This is a script.
"""

import json
import sys
from pathlib import Path


def main(file: str, folder: str, settings: str) -> None:
    """Load the ticket, run it, and write its logits."""
    import torch

    from tickdsl.errors import TickdslError
    from tickdsl.plugins import allow_code
    from tickdsl.tickets.export_format import TestConditions
    from tickdsl.tickets.ticket_file import open_ticket
    from tickdsl.tickets.verification import logits

    known = json.loads(settings)
    if known.pop("allow_code"):
        allow_code()
    images = torch.load(Path(folder) / "images.pt", weights_only=True, mmap=True)
    try:
        ticket = open_ticket(file)
        outputs = logits(ticket.network(), ticket.preprocessing, images, TestConditions(**known))
    except TickdslError as error:
        sys.exit(error.message)
    torch.save(outputs, Path(folder) / "logits.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
