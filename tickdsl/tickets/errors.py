"""The errors of tickets."""

from __future__ import annotations

from tickdsl.errors import TicketError


class VerificationError(TicketError):
    """A file that was written does not compute what its network computes."""


__all__ = ["TicketError", "VerificationError"]
