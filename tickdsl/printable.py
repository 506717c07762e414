"""Make text of others printable: plans, paths, events, names in archives, and the messages of exceptions.

A terminal obeys control characters: they can set the clipboard, rename the window, or hide and reorder what is shown.
`TickdslError`, `Diagnostic` and every `Event` pass their text through `printable` when they are made; what else is
shown passes through it when it is printed.
"""

from __future__ import annotations

import operator
import re
from typing import Any

#: Control characters except newline and tab, surrogates, and invisible characters that reorder or hide text.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff"
    r"\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)

_NUMBERS = (float, int, bool, type(None))


def printable(text: str) -> str:
    r"""`text` with every character that is not safe to show as an escape, e.g. `\x1b`; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def printable_line(text: str) -> str:
    """`printable(text)` on one line: newlines and tabs are escaped too. For names and paths."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def printable_json(document: str) -> str:
    """A JSON document with the same values in which every character is safe to show."""
    return _UNPRINTABLE.sub(_json_escape, document)


def printable_value(value: Any) -> Any:
    """`value` with all text in it printable. Tuples, lists and dicts of other values are returned as they are."""
    kind = type(value)
    if kind in _NUMBERS:
        return value
    if isinstance(value, str):
        return printable(value)
    if kind is tuple or kind is list:
        items = [printable_value(item) for item in value]
        return value if all(map(operator.is_, items, value)) else kind(items)
    if kind is dict:
        for name, inner in value.items():
            if type(inner) not in _NUMBERS or printable(name) is not name:
                return {printable_value(name): printable_value(inner) for name, inner in value.items()}
    return value


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
