"""Decides when the monitor redraws its screen."""

from __future__ import annotations

POLL_SECONDS = 0.25
_IDLE_REDRAW_SECONDS = 1.0  # elapsed times are updated this often even without events


class DrawSchedule:
    """Limits drawing to about a tenth of the time, however large the plan is.

    `stale` is True while there are changes that are not drawn yet. Times are seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self.stale = True
        self._drawn_at = float("-inf")
        self._draw_seconds = 0.0

    def due(self, now: float) -> bool:
        """Whether to draw now."""
        elapsed = now - self._drawn_at
        has_changes = self.stale and elapsed >= max(POLL_SECONDS * 0.9, 10 * self._draw_seconds)
        return has_changes or elapsed >= _IDLE_REDRAW_SECONDS

    def drawn(self, now: float, seconds: float) -> None:
        """Record that drawing took `seconds` and ended at `now`."""
        self._drawn_at, self._draw_seconds = now, seconds
