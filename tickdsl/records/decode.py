"""A line of `events.jsonl` as a typed record; what does not fit its type is no event."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.records.events import TYPES, VERSION, Event

_Rebuild = Callable[[Any], Any]


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
        content = _json.decode(line.decode())
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


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_json = json.JSONDecoder(parse_constant=_refuse)


def _build(kind: type[Any], content: Any) -> Any:
    """An attrs value from a mapping; fields that this version does not know are dropped."""
    if type(content) is not dict:
        raise ValueError(f"{kind.__name__} is not an object")
    values = {}
    for name, plain, rebuild, required in _known.get(kind) or _learn(kind):
        if name in content:
            value = content[name]
            if type(value) not in plain:
                if rebuild is None or value is None:
                    raise ValueError(f"{kind.__name__}.{name}: {value!r} is of another type")
                value = rebuild(value)
            values[name] = value
        elif required:
            raise ValueError(f"{kind.__name__} without {name}")
    return kind(**values)


# Per field: its name, the types that JSON gives for it as they are, how to rebuild others, required.
_Field = tuple[str, frozenset[type], _Rebuild | None, bool]
_known: dict[type[Any], list[_Field]] = {}


def _learn(kind: type[Any]) -> list[_Field]:
    hints = typing.get_type_hints(kind)
    _known[kind] = [
        (field.name, *_reading(hints[field.name]), field.default is attrs.NOTHING) for field in attrs.fields(kind)
    ]
    return _known[kind]


def _reading(hint: Any) -> tuple[frozenset[type], _Rebuild | None]:
    """Which types pass as they are, and a function for what must be rebuilt (it may raise ValueError)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner, rebuild = _reading(arguments[0])
        return inner | {type(None)}, rebuild
    if origin is tuple:
        plain, rebuild = _reading(arguments[0])
        return frozenset(), lambda value: _items(value, plain, rebuild)
    if attrs.has(hint):
        return frozenset(), lambda value: _build(hint, value)
    if origin is not None and issubclass(origin, Mapping):
        return frozenset({dict}), None
    return frozenset({float, int}) if hint is float else frozenset({hint}), None


def _items(value: Any, plain: frozenset[type], rebuild: _Rebuild | None) -> tuple[Any, ...]:
    if type(value) is not list:
        raise ValueError(f"{value!r} is not a list")
    if rebuild is not None:
        return tuple(rebuild(item) for item in value)
    if any(type(item) not in plain for item in value):
        raise ValueError(f"{value!r} holds another type")
    return tuple(value)
