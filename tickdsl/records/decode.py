"""A line of `events.jsonl` as a typed record; what does not fit its type is no event."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.records.events import TYPES, VERSION, Event

_Check = Callable[[Any], Any]


@attrs.frozen
class Record:
    """An event with its number in the file and its time, in seconds since 1970."""

    seq: int
    t: float
    event: Event


def decode(line: bytes) -> Record | None:
    """The record of one line; None for a type or version that is not known here.

    Raises ValueError for a line that is damaged: no JSON, a field missing or of another type.
    """
    try:
        content = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")
    seq, t, kind = content.get("seq"), content.get("t"), content.get("type")
    if not isinstance(seq, int) or not isinstance(t, (int, float)) or not isinstance(kind, str):
        raise ValueError("no seq, t or type")
    if content.get("v") != VERSION or kind not in TYPES:
        return None
    return Record(seq, t, _build(TYPES[kind], content))


def _build(kind: type[Any], content: Any) -> Any:
    """An attrs value from a mapping; fields that this version does not know are dropped."""
    if type(content) is not dict:
        raise ValueError(f"{kind.__name__} is not an object")
    values = {}
    for name, check, required in _fields(kind):
        if name in content:
            values[name] = check(content[name])
        elif required:
            raise ValueError(f"{kind.__name__} without {name}")
    return kind(**values)


_known: dict[type[Any], list[tuple[str, _Check, bool]]] = {}


def _fields(kind: type[Any]) -> list[tuple[str, _Check, bool]]:
    if kind not in _known:
        hints = typing.get_type_hints(kind)
        _known[kind] = [
            (field.name, _check(hints[field.name]), field.default is attrs.NOTHING)
            for field in attrs.fields(kind)
        ]
    return _known[kind]


def _check(hint: Any) -> _Check:
    """A function that gives the value back as the hinted type, or raises ValueError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner = _check(next(argument for argument in arguments if argument is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        item = _check(arguments[0])
        return lambda value: tuple(item(inner) for inner in _is(value, (list,)))
    if attrs.has(hint):
        return lambda value: _build(hint, value)
    if origin is not None and issubclass(origin, Mapping):
        return lambda value: _is(value, (dict,))
    accepted = (float, int) if hint is float else (hint,)
    return lambda value: _is(value, accepted)


def _is(value: Any, kinds: tuple[type, ...]) -> Any:
    if type(value) not in kinds:
        raise ValueError(f"{value!r} is of another type")
    return value
