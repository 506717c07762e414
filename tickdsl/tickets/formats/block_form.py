"""The network that a portable file holds: the ticket's, or with `--blocks` the one that computes only dense blocks."""

from __future__ import annotations

import copy

from torch import nn

from tickdsl.graph.surgery.dense_blocks import with_dense_blocks
from tickdsl.tickets.errors import TicketError
from tickdsl.tickets.export_format import ExportOptions, Subject


def network_to_export(subject: Subject, options: ExportOptions) -> nn.Module:
    """The network of a subject in the form that the options ask for.

    Raises TicketError with `blocks` if no layer consists of whole filters or dense blocks.
    """
    if not options.blocks:
        return subject.network
    network = copy.deepcopy(subject.network)
    masked = subject.ticket.structure.masks
    # Masked weights are zero in a ticket; a weight that happens to be zero may be left out as well.
    masks = {name: weight.detach() != 0 for name, weight in network.named_parameters() if name in masked}
    if not with_dense_blocks(network, masks):
        raise TicketError(
            "--blocks: no layer of this network consists of whole filters or dense blocks",
            "leave it out; it is for tickets of `refill` and `regroup`",
        )
    return network
