"""Moments and lengths of training: `160ep`, `500it`, `5%`, `init`, `end`.

`Moment` keeps the amount and its unit together, so that epochs and optimizer steps cannot be mixed up. The training
loop converts it to steps.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

import attrs

_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(epochs?|ep|iterations?|iters?|it|steps?|%)")
_UNITS = {"e": "ep", "i": "it", "s": "it", "%": "%"}


@attrs.frozen
class Moment:
    """An `amount` of a `unit`: epochs (`ep`), optimizer steps (`it`) or percent of the recipe (`%`)."""

    amount: Fraction = attrs.field(converter=Fraction)
    unit: str = attrs.field(validator=attrs.validators.in_(("ep", "it", "%")))

    @classmethod
    def parse(cls, text: str) -> Moment:
        """Parse `160ep`, `2 epochs`, `500it`, `5%`, `init` or `end`. Raises ValueError for any other text."""
        if text == "init":
            return cls(Fraction(0), "it")
        if text == "end":
            return cls(Fraction(100), "%")
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a moment; write 160ep, 500it, 5% or init")
        return cls(Fraction(match[1]), _UNITS[match[2][0]])

    def steps(self, steps_per_epoch: int, total: int | None = None) -> int:
        """Convert to optimizer steps, rounded to the nearest (halves up).

        `total` is the length of the recipe in steps. Raises ValueError if it is missing and the unit is `%`.
        """
        if self.unit == "it":
            exact = self.amount
        elif self.unit == "ep":
            exact = self.amount * steps_per_epoch
        elif total is None:
            raise ValueError(f"{self} is relative to the length of the recipe, which is not known here")
        else:
            exact = self.amount * total / 100
        return math.floor(exact + Fraction(1, 2))

    def __str__(self) -> str:
        whole = self.amount.denominator == 1
        return f"{self.amount.numerator if whole else float(self.amount)}{self.unit}"

    @property
    def brief(self) -> str:
        """The moment rounded for display, e.g. a computed `3.93ep`."""
        return f"{format_brief(self.amount)}{self.unit}"


def format_brief(number: float | Fraction) -> str:
    """Format a number for display: two decimals, or two significant digits below 0.01; never with an exponent."""
    exact = float(number)
    text = f"{exact:.2f}" if abs(exact) >= 0.01 or not exact else f"{exact:.{1 - math.floor(math.log10(abs(exact)))}f}"
    return text.rstrip("0").rstrip(".")


INIT = Moment(Fraction(0), "it")


def format_duration(seconds: float) -> str:
    """Format seconds as `m:ss` or `h:mm:ss`."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
