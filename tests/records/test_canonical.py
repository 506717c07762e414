"""Equal values have equal digests, different values have different ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.records.canonical import canonical_json, digest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_the_order_of_a_mapping_means_nothing(value: object) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(inner) for key, inner in reversed(value.items())}
        return tuple(map(turned, value)) if isinstance(value, list) else value

    assert canonical_json(turned(value)) == canonical_json(value)


@settings(deadline=None)
@given(VALUES, VALUES)
def test_different_values_differ(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (repr(sort(one)) == repr(sort(other)))


def sort(value: object) -> object:
    if isinstance(value, dict):
        return {key: sort(value[key]) for key in sorted(value)}
    return [sort(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("value", [{1: 2}, {"a": {None: 1}}, {1, 2}, b"x", object(), [3 + 0j]])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_is_not_finite_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(value)
