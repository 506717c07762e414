"""How many weights a gradual prune has left at every step, against Zhu & Gupta's formula."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.pruning.gradual import removed_share, steps_of_changes, weights_left
from tickdsl.pruning.scope import Pool, Scope


def zhu_gupta(initial: float, final: float, step: int, start: int, span: int) -> float:
    """Equation 1 of Zhu & Gupta 2017: s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Δt))^3."""
    return final + (initial - final) * (1 - (step - start) / span) ** 3


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(2, 5000), min_size=1, max_size=5), st.floats(0.5, 0.98), st.integers(0, 300),
    st.integers(1, 400), st.integers(1, 60), st.booleans(),
)  # fmt: skip
def test_the_sparsity_is_that_of_the_formula(
    sizes: list[int], final: float, start: int, span: int, every: int, together: bool
) -> None:
    total = sum(sizes)
    scope = Scope(tuple(Pool(f"w{i}", size, size, 1) for i, size in enumerate(sizes)), total, 0)
    args = {"unit": "weights", "scope": "global" if together else "local", "to": final}
    if together and round(final * total) > total - len(sizes):
        return  # every layer keeps a weight, so this much cannot go
    left = weights_left(scope, args, start, start + span, every)
    assert list(left) == [*range(start + every, start + span, every), start + span]
    wholes = [total] if together else sizes
    for step, counts in left.items():
        expected = zhu_gupta(0, final, step, start, span)
        for count, whole in zip(counts, wholes, strict=True):
            assert abs((whole - count) - min(expected * whole, whole - 1)) <= 1.01
    # The last one is what a prune at one moment leaves, exactly.
    ends = left[start + span]
    assert ends == tuple(whole - min(int(final * whole + 0.5), whole - 1) for whole in wholes)
    assert all(all(a >= b for a, b in zip(x, y, strict=True)) for x, y in pairwise(left.values()))


def test_a_network_that_is_sparse_already_starts_from_its_sparsity() -> None:
    scope = Scope((Pool("w", 1000, 400, 1),), 1000, 600)
    left = weights_left(scope, {"unit": "weights", "scope": "global", "to": 0.9}, 0, 100, 25)
    expected = [1000 * (1 - zhu_gupta(0.6, 0.9, step, 0, 100)) for step in (25, 50, 75, 100)]
    assert [count for (count,) in left.values()] == pytest.approx(expected, abs=0.51)


def test_curves() -> None:
    assert [removed_share(Fraction(n, 4)) for n in range(5)] == [
        0,
        Fraction(37, 64),
        Fraction(7, 8),
        Fraction(63, 64),
        1,
    ]
    assert [removed_share(Fraction(n, 4), "linear") for n in range(5)] == [Fraction(n, 4) for n in range(5)]
    assert steps_of_changes(10, 35, 10) == [20, 30, 35]
    assert steps_of_changes(0, 30, 10) == [10, 20, 30]
