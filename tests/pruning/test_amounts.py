"""Amounts: no round removes more than there is, targets are met exactly, and forecasts match runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.pruning.amounts import global_count, local_count, round_half_up
from tickdsl.pruning.patterns import matches
from tickdsl.pruning.round_forecast import rounds_until
from tickdsl.pruning.scope import Pool, Scope

pools = st.lists(st.integers(1, 600), min_size=1, max_size=6).map(
    lambda sizes: tuple(Pool(f"p{i}", size, size, minimum=1) for i, size in enumerate(sizes))
)
shares = st.floats(0.001, 0.999)


def whole(drawn: tuple[Pool, ...], protected: int = 0) -> Scope:
    return Scope(drawn, sum(p.original for p in drawn) + protected, 0)


@given(pools, st.integers(1, 900))
def test_a_count_is_removed_exactly_or_an_error(drawn: tuple[Pool, ...], count: int) -> None:
    args = {"unit": "filters", "scope": "global", "count": count}
    if count > sum(p.remaining - p.minimum for p in drawn):
        with pytest.raises(TickdslError, match="cannot remove"):
            global_count(whole(drawn), args)
    else:
        assert global_count(whole(drawn), args) == count
    for pool in drawn:
        if count > pool.remaining - pool.minimum:
            with pytest.raises(TickdslError, match=pool.name):
                local_count(pool, args)
        else:
            assert local_count(pool, args) == count


@given(pools, shares.map(lambda s: {"share": s}))
def test_a_round_never_empties_a_layer(drawn: tuple[Pool, ...], amount: dict) -> None:
    args = {"unit": "filters", "scope": "global", **amount}
    assert 0 <= global_count(whole(drawn), args) <= sum(p.remaining - p.minimum for p in drawn)
    for pool in drawn:
        assert 0 <= local_count(pool, args) <= pool.remaining - pool.minimum


@given(pools, shares)
def test_a_target_is_met_exactly_or_an_error(drawn: tuple[Pool, ...], share: float) -> None:
    scope = whole(drawn)
    args = {"unit": "filters", "scope": "global", "to": share}
    free = sum(p.remaining - p.minimum for p in drawn)
    if round_half_up(share * scope.total) > free:
        with pytest.raises(TickdslError):
            global_count(scope, args)
    else:
        assert global_count(scope, args) == round_half_up(share * scope.total)


def test_protected_layers_lower_the_ceiling() -> None:
    scope = Scope((Pool("a", 690, 690, 1),), total=1000, removed=0)
    with pytest.raises(TickdslError, match=r"at most 68\.9% can"):
        global_count(scope, {"unit": "weights", "scope": "global", "to": 0.99})
    with pytest.raises(TickdslError, match="out of reach"):
        rounds_until(scope, lambda index: {"unit": "weights", "scope": "global", "share": 0.2}, 0.99)


def test_what_cannot_be_reached_by_a_hair_is_not_said_to_be_removed() -> None:
    scope = Scope((Pool("a", 9996, 9996, 1),), total=10_000, removed=0)
    with pytest.raises(TickdslError, match=r"removing 99\.99% .* these rounds remove 99\.95%"):
        rounds_until(scope, lambda index: {"unit": "weights", "scope": "global", "share": 0.5}, 0.9999)


@pytest.mark.parametrize(("until", "rounds"), [(0.80, 10), (0.90, 15), (0.95, 19), (0.98, 25), (0.99, 29)])
def test_the_published_round_counts_of_imp(until: float, rounds: int) -> None:
    """With 15% of the remaining weights per round, as COLT counts the rounds of IMP."""
    scope = Scope((Pool("conv", 10**8, 10**8, 1),), 10**8, 0)
    assert rounds_until(scope, lambda index: {"unit": "weights", "scope": "global", "share": 0.15}, until) == rounds


@given(pools, st.floats(0.05, 0.5), st.floats(0.05, 0.6))
def test_the_forecast_matches_local_rounds(drawn: tuple[Pool, ...], share: float, until: float) -> None:
    args = {"unit": "weights", "scope": "local", "share": share}
    scope = whole(drawn)
    try:
        rounds = rounds_until(scope, lambda index: args, until)
    except TickdslError:
        return
    remaining = {p.name: p.remaining for p in drawn}
    for _ in range(rounds):
        assert 1 - sum(remaining.values()) / scope.total < until
        remaining = {
            p.name: remaining[p.name] - local_count(Pool(p.name, p.original, remaining[p.name], 1), args) for p in drawn
        }
    assert 1 - sum(remaining.values()) / scope.total >= until - 1e-9


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("layer1.*", "layer1.0", True),
        ("layer1.*", "layer10.0", False),
        ("layer1.*", "layer1.0.conv1", True),
        ("layer1.**", "layer1.0.conv1", True),
        ("layer1.**", "layer10.0", False),
        ("layer*.**", "layer10.0", True),
        ("layer1", "layer1.0.conv1", True),
        ("layer1", "layer10.0.conv1", False),
        ("*.conv1", "layer1.conv1", True),
        ("*.conv1", "layer1.0.conv1", False),
        ("**.conv1", "layer1.0.conv1", True),
        ("**", "anything.at.all", True),
        ("conv[12]", "conv2", True),
        ("fc", "fc", True),
        ("f", "fc", False),
    ],
)
def test_patterns_respect_segments(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@given(st.integers(1, 500), st.integers(1, 12))
def test_rounds_of_the_original_add_up(original: int, rounds: int) -> None:
    """A share split into rounds removes as many units as a single round."""
    taken = [
        local_count(Pool("p", original, original, 0), {"of_original": [i / (rounds + 1), (i + 1) / (rounds + 1)]})
        for i in range(rounds)
    ]
    assert sum(taken) == round_half_up(rounds / (rounds + 1) * original)
