"""The errors of tickets."""

from __future__ import annotations

from tickdsl.errors import TickdslError


class TicketError(TickdslError):
    """A ticket that cannot be exported, read or rebuilt."""


class VerificationError(TicketError):
    """A file that was written does not compute what its network computes."""
