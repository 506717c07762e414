"""One spelling for equal values, so that equal work has an equal name."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> bytes:
    """`value` (None, bool, int, float, str, list, tuple, dict of str) as JSON bytes, equal for equal values.

    Mapping keys are sorted, tuples read as lists, and `1` differs from `1.0`: an option that changes from a
    count to a share is another option. Raises ValueError for NaN and infinities, TypeError for anything else.
    """
    _check_types(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """The sha256 of `canonical(value)`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def json_safe(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become None, scalars of numpy and torch numbers."""
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
    # json.dumps writes {1: …} and {"1": …} alike, and subclasses (numpy floats, enums) as their base type.
    cls = type(value)
    if cls is dict:
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"only text can be a key of a canonical mapping, not {key!r}")
            _check_types(inner)
    elif cls in (list, tuple):
        for inner in value:
            _check_types(inner)
    elif cls not in (str, int, float, bool, type(None)):
        raise TypeError(f"{value!r} ({cls.__name__}) has no canonical form")
