"""Format values as plan text: numbers, percentages, moments and quoted names."""

from __future__ import annotations

import re
from fractions import Fraction

from tickdsl.lang import syntax
from tickdsl.moments import INIT, Moment

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")


def format_value(value: syntax.Value) -> str:
    """The source text of a value of the AST."""
    match value:
        case syntax.Number(number):
            short = f"{number:g}"
            return short if isinstance(number, float) and float(short) == number else str(number)
        case syntax.Percent(share):
            return f"{format_decimal(share * 100)}%"
        case syntax.Length(moment):
            return str(moment)
        case syntax.Word(text):
            return text
        case syntax.String(text):
            return f'"{text}"'
        case syntax.Ref(name):
            return f"${name}"
        case syntax.ListValue(values):
            return "[" + ", ".join(format_value(v) for v in values) + "]"
        case syntax.IntRange(first, last):
            return f"{first}..{last}"
        case syntax.Rates(rates):
            return "[" + ", ".join(f"{format_value(r.layer)}: {format_value(r.share)}" for r in rates) + "]"


def format_decimal(number: Fraction) -> str:
    """A number without an exponent; rounded to 18 decimals if its decimal expansion is longer or infinite."""
    places = next((n for n in range(19) if (number * 10**n).denominator == 1), None)
    if places is None:
        return f"{float(number):.18f}".rstrip("0").rstrip(".")
    digits = f"{int(number * 10**places):0{places + 1}d}"
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def percent(share: Fraction | float) -> str:
    """`20%`, `98.5%`: rounded to six significant digits, for messages."""
    return f"{float(share) * 100:.6g}%"


def format_percentage(share: Fraction | float) -> str:
    """The exact percentage of a share: 0.2 is `20%`."""
    return f"{format_decimal((share if isinstance(share, Fraction) else Fraction(str(share))) * 100)}%"


def format_number(value: float) -> str:
    """A number, without `.0` if it is whole."""
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))


def format_moment(value: Moment | str) -> str:
    """A moment: `init`, `5ep`, `500it`, `5%`."""
    value = value if isinstance(value, Moment) else Moment.parse(value)
    return "init" if value == INIT else f"{format_decimal(value.amount)}{value.unit}"


def format_name(value: str) -> str:
    """A name, in quotes if it is not a valid name of the plan language."""
    return value if _NAME.fullmatch(value) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
