"""The t quantiles against closed forms, against their own inverse and against scipy."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.results.student_t import t_quantile

SHARES = st.floats(0.001, 0.9995)


@given(SHARES)
def test_one_and_two_degrees_have_closed_forms(p: float) -> None:
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-8, abs=1e-9)
    a = 2 * p - 1
    assert t_quantile(p, 2) == pytest.approx(a * math.sqrt(2 / (1 - a * a)), rel=1e-8, abs=1e-9)


@settings(deadline=None)
@given(SHARES, st.floats(0.5, 1e9))
def test_quantiles_agree_with_scipy(p: float, df: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("df", "printed"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_the_printed_table(df: int, printed: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(printed, abs=5e-4)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3), (1.0, 3), (0.9, 0), (float("nan"), 3)])
def test_what_has_no_quantile(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(p, df)
