"""Canonical JSON: equal values have equal bytes, so equal work has an equal key."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:
    """`value` (None, bool, int, float, str, list, tuple, or dict with str keys) as JSON bytes, equal for equal values.

    Keys are sorted, tuples become lists, and `1` differs from `1.0`: one is a count, the other a share. Raises
    ValueError for NaN and infinities, TypeError for values of other types.
    """
    _check_types(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """The SHA-256 of `canonical_json(value)`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def json_safe(value: Any) -> Any:
    """`value` in types that JSON can hold: NaN and infinities become None, NumPy and torch scalars become numbers."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_safe(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(inner) for inner in value]
    if hasattr(value, "item"):
        return json_safe(value.item())
    return value


def _check_types(value: Any) -> None:
    # json.dumps writes {1: …} and {"1": …} the same, and subclasses (NumPy floats, enums) as their base types.
    cls = type(value)
    if cls is dict:
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"the keys of a canonical mapping must be strings, not {key!r}")
            _check_types(inner)
    elif cls in (list, tuple):
        for inner in value:
            _check_types(inner)
    elif cls not in (str, int, float, bool, type(None)):
        raise TypeError(f"{value!r} ({cls.__name__}) has no canonical form")
