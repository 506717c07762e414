"""Format shares as percentages: 36.0%, 99.97%, 0.02%."""

from __future__ import annotations

import math

MINUS = "−"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as a percentage: `36.0%`.

    Shares close to 0 or to 1 get up to four digits, so as not to show as none or all; still closer to 1, they are cut.
    """
    if share is None:
        return "–"
    value = 100.0 * share
    while digits < 4 and (0.0 < abs(value) < 0.95 * 10.0**-digits or (value < 100.0 and round(value, digits) == 100.0)):
        digits += 1
    if value < 100.0 and round(value, digits) == 100.0:
        value = math.nextafter(100.0 - 10.0**-digits, 100.0)
    return f"{value:.{digits}f}%".replace("-", MINUS)
