"""The t and normal distributions against closed forms and printed tables."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.results.student_t import normal_quantile, normal_tail, t_quantile, t_tail

SHARES = st.floats(0.001, 0.9995)


@given(SHARES)
def test_one_and_two_degrees_have_closed_forms(p: float) -> None:
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-8, abs=1e-9)
    a = 2 * p - 1
    assert t_quantile(p, 2) == pytest.approx(a * math.sqrt(2 / (1 - a * a)), rel=1e-8, abs=1e-9)


@settings(deadline=None)
@given(SHARES, st.floats(0.5, 200))
def test_a_tail_undoes_its_quantile(p: float, df: float) -> None:
    assert t_tail(t_quantile(p, df), df) == pytest.approx(1 - p, rel=1e-6)
    assert normal_tail(normal_quantile(p)) == pytest.approx(1 - p, rel=1e-9)


@pytest.mark.parametrize(("df", "printed"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_the_printed_table(df: int, printed: float) -> None:
    assert t_quantile(0.975, df) == pytest.approx(printed, abs=5e-4)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3), (1.0, 3), (0.9, 0), (float("nan"), 3)])
def test_what_has_no_quantile(p: float, df: float) -> None:
    with pytest.raises(ValueError, match="no t quantile"):
        t_quantile(p, df)


def test_scipy_is_loaded_when_it_is_needed() -> None:
    code = (
        "import sys; from tickdsl.results.estimates import estimate; "
        "estimate([0.5]); assert 'scipy' not in sys.modules; "
        "estimate([0.5, 0.6]); sys.exit('scipy.special' not in sys.modules or 'scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
