"""Values as a plan writes them: numbers, percentages, moments and quoted names."""

from __future__ import annotations

import re
from fractions import Fraction

from tickdsl.lang import syntax
from tickdsl.moments import INIT, Moment

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")


def spell(value: syntax.Value) -> str:
    """The value as a person writes it."""
    match value:
        case syntax.Number(number):
            short = f"{number:g}"
            return short if isinstance(number, float) and float(short) == number else str(number)
        case syntax.Percent(share):
            return f"{decimal(share * 100)}%"
        case syntax.Length(moment):
            return str(moment)
        case syntax.Word(text):
            return text
        case syntax.Text(text):
            return f'"{text}"'
        case syntax.Ref(name):
            return f"${name}"
        case syntax.Items(values):
            return "[" + ", ".join(spell(v) for v in values) + "]"
        case syntax.IntRange(first, last):
            return f"{first}..{last}"


def decimal(number: Fraction) -> str:
    """A number in full, without an exponent; to 18 digits where there is no end of them."""
    places = next((n for n in range(19) if (number * 10**n).denominator == 1), None)
    if places is None:
        return f"{float(number):.18f}".rstrip("0").rstrip(".")
    digits = f"{int(number * 10**places):0{places + 1}d}"
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


def percent(share: Fraction | float) -> str:
    """`20%`, `98.5%`: to six digits."""
    return f"{float(share) * 100:.6g}%"


def percentage(share: Fraction | float) -> str:
    return f"{decimal((share if isinstance(share, Fraction) else Fraction(str(share))) * 100)}%"


def number(value: float) -> str:
    whole = float(value).is_integer() and abs(value) < 1e15
    return str(int(value)) if whole else repr(float(value))


def moment(value: Moment | str) -> str:
    value = value if isinstance(value, Moment) else Moment.parse(value)
    return "init" if value == INIT else f"{decimal(value.amount)}{value.unit}"


def text(value: str) -> str:
    """A name, quoted where it is none of the language's."""
    return value if _NAME.fullmatch(value) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
