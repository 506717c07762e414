"""Formatted numbers keep their value."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tickdsl.results import formatting
from tickdsl.results.estimates import Estimate


@settings(deadline=None)
@given(st.floats(1e-5, 1.0))
def test_a_nonzero_share_is_never_formatted_as_zero(share: float) -> None:
    number = float(formatting.percent(share).removesuffix("%"))
    assert number > 0
    assert number == pytest.approx(100 * share, abs=0.051)


@settings(deadline=None)
@given(st.integers(0, 10**14))
def test_a_count_keeps_three_digits(number: int) -> None:
    value, _, unit = formatting.count(number).partition(" ")
    back = float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[unit]
    assert back == pytest.approx(number, rel=0.0051)
    assert len(value.replace(".", "")) <= 4


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_duration_can_be_read_back(seconds: int) -> None:
    parts = [int(part) for part in formatting.format_duration(seconds).split(":")]
    assert sum(part * 60**place for place, part in enumerate(reversed(parts))) == seconds


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [(0.0031, 0.002, "+0.31 ± 0.20"), (-0.0031, None, "−0.31"), (-1e-9, 0.0, "+0.00 ± 0.00")],
)
def test_differences_carry_their_sign(mean: float, half: float | None, expected: str) -> None:
    assert formatting.points(Estimate(3, mean, half)) == expected


def test_missing_values_are_a_dash() -> None:
    assert {formatting.percent(None), formatting.accuracy(None), formatting.points(None), formatting.count(None)} == {
        "–"
    }


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.634, "0.63 s"), (0.996, "1.0 s"), (8.21, "8.2 s"), (9.96, "10 s"), (41.4, "41 s"), (59.6, "1:00")],
)
def test_times_have_two_digits_and_more_from_a_minute_on(seconds: float, expected: str) -> None:
    assert formatting.training_time(seconds) == expected


@settings(deadline=None)
@given(st.floats(0.99, 1.0), st.integers(0, 2))
@example(0.9997, 1)
@example(1 - 1e-9, 0)
def test_a_share_of_less_than_all_is_never_formatted_as_all(share: float, digits: int) -> None:
    number = float(formatting.percent(share, digits).removesuffix("%"))
    assert (number == 100) == (share == 1)
    assert number == pytest.approx(100 * share, abs=0.5 * 10**-digits + 1e-4)
