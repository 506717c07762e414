"""Names with options in plans: `focal`, or `"focal(gamma=1)"`."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import attrs

_NAME = re.compile(r"[A-Za-z_][\w.:-]*")
_PLAIN = (bool, int, float, str, type(None))


class CallError(ValueError):
    """Raised for a text that is no name with options: the message says what is wrong with it."""


@attrs.frozen
class Call:
    """A name and the options that stand behind it in parentheses, by name."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)

    @classmethod
    def parse(cls, text: str) -> Call:
        """The call that a text stands for; options are literals of Python. Runs no code. Raises CallError."""
        name, bracket, rest = text.strip().partition("(")
        name = name.strip()
        if not _NAME.fullmatch(name):
            raise CallError(f"`{text}` is not a name")
        if not bracket:
            return cls(name)
        try:
            call = ast.parse(f"_({rest}", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise CallError(f"`{text}` is not a name with options") from None
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise CallError(f"`{text}` is not a name with options")
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise CallError(f"`{text}` has an option without a name")
        options: dict[str, Any] = {}
        for keyword in call.keywords:
            try:
                value = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                raise CallError(f"`{text}`: {keyword.arg} is not a plain value") from None
            if not _is_plain(value):
                raise CallError(f"`{text}`: {keyword.arg} is not a number, a word or a list of them")
            options[str(keyword.arg)] = value
        return cls(name, options)

    def __str__(self) -> str:
        """The canonical text: equal calls have equal texts."""
        listed = ", ".join(f"{name}={value!r}" for name, value in sorted(self.options.items()))
        return f"{self.name}({listed})" if listed else self.name


def call_name(text: str) -> str:
    """The name of a call, without its options."""
    return text.partition("(")[0].strip()


def _is_plain(value: object) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else isinstance(value, _PLAIN)
