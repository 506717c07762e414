"""Decode a line of `events.jsonl` into a typed record; a line that does not match its type is not an event."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tickdsl.records.events import TYPES, VERSION, Event

_Converter = Callable[[Any], Any]
#: More seconds since 1970 than a calendar has; JSON also has 1e999, which is infinite.
_MAX_SECONDS = 1e11


@attrs.frozen
class EventRecord:
    """An event with its number in the file and its time in seconds since 1970."""

    seq: int
    t: float
    event: Event


def decode(line: bytes) -> EventRecord | None:
    """The record of one line; None for an event of an unknown type or version.

    Raises ValueError for a damaged line: invalid JSON, or a field that is missing or of the wrong type.
    """
    try:
        content = _decoder.decode(line.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")
    seq, t, kind = content.get("seq"), content.get("t"), content.get("type")
    if not isinstance(seq, int) or not isinstance(t, (int, float)) or not isinstance(kind, str):
        raise ValueError("no seq, t or type")
    if not -_MAX_SECONDS < t < _MAX_SECONDS:
        raise ValueError("no time")
    if content.get("v") != VERSION or kind not in TYPES:
        return None
    return EventRecord(seq, t, _from_mapping(TYPES[kind], content))


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_reject_constant)


def _from_mapping(cls: type[Any], content: Any) -> Any:
    """An instance of an attrs class from a mapping; unknown fields are dropped."""
    if type(content) is not dict:
        raise ValueError(f"{cls.__name__} is not an object")
    values = {}
    for name, accepted, convert, required in _fields_of.get(cls) or _describe_fields(cls):
        if name in content:
            value = content[name]
            if type(value) not in accepted:
                if convert is None or value is None:
                    raise ValueError(f"{cls.__name__}.{name}: {value!r} has the wrong type")
                value = convert(value)
            values[name] = value
        elif required:
            raise ValueError(f"{cls.__name__} has no {name}")
    return cls(**values)


# Per field: its name, the JSON types that are accepted unchanged, a converter for others, whether it is required.
_Field = tuple[str, frozenset[type], _Converter | None, bool]
_fields_of: dict[type[Any], list[_Field]] = {}


def _describe_fields(cls: type[Any]) -> list[_Field]:
    hints = typing.get_type_hints(cls)
    _fields_of[cls] = [
        (field.name, *_converter(hints[field.name]), field.default is attrs.NOTHING) for field in attrs.fields(cls)
    ]
    return _fields_of[cls]


def _converter(hint: Any) -> tuple[frozenset[type], _Converter | None]:
    """The JSON types that are accepted unchanged, and a converter for other values (it may raise ValueError)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner, convert = _converter(arguments[0])
        return inner | {type(None)}, convert
    if origin is tuple:
        accepted, convert = _converter(arguments[0])
        return frozenset(), lambda value: _convert_items(value, accepted, convert)
    if attrs.has(hint):
        return frozenset(), lambda value: _from_mapping(hint, value)
    if origin is not None and issubclass(origin, Mapping):
        if attrs.has(arguments[1]):
            return frozenset(), lambda value: _convert_values(value, arguments[1])
        return frozenset({dict}), None
    return frozenset({float, int}) if hint is float else frozenset({hint}), None


def _convert_values(value: Any, kind: type[Any]) -> dict[str, Any]:
    if type(value) is not dict:
        raise ValueError(f"{value!r} is not an object")
    return {name: _from_mapping(kind, item) for name, item in value.items()}


def _convert_items(value: Any, accepted: frozenset[type], convert: _Converter | None) -> tuple[Any, ...]:
    if type(value) is not list:
        raise ValueError(f"{value!r} is not a list")
    if convert is not None:
        return tuple(convert(item) for item in value)
    if any(type(item) not in accepted for item in value):
        raise ValueError(f"{value!r} has an item of the wrong type")
    return tuple(value)
