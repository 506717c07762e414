"""What this process has asked of buckets, sent to them and received from them, so that a run can show it."""

from __future__ import annotations

import threading

import attrs


@attrs.frozen
class Transfers:
    """Requests to buckets, and the bytes of the contents that were received and sent.

    A long listing or a large file counts as one request, and so does a request that the client repeats by itself.
    """

    requests: int = 0
    received: int = 0
    sent: int = 0

    def __add__(self, other: Transfers) -> Transfers:
        return Transfers(self.requests + other.requests, self.received + other.received, self.sent + other.sent)


class TransferCounter:
    """Adds up transfers until somebody takes them; can be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = Transfers()

    def add(self, more: Transfers) -> None:
        """Count transfers."""
        with self._lock:
            self._total += more

    def take(self) -> Transfers:
        """All that was counted since the last call."""
        with self._lock:
            total, self._total = self._total, Transfers()
        return total


#: Those of this process.
TRANSFERS = TransferCounter()
