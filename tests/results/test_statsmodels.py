"""Verdicts against statsmodels, which takes seconds to import."""

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.results.paired_tests import PairedLevel, holm, paired_tests

pytestmark = pytest.mark.slow

POINTS = st.floats(-0.1, 0.1).map(lambda x: round(x, 4))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(ps: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]))


@settings(deadline=None, max_examples=30)
@given(st.lists(POINTS, min_size=3, max_size=8), POINTS)
def test_one_level_agrees_with_statsmodels(values: list[float], bound: float) -> None:
    from statsmodels.stats.weightstats import DescrStatsW

    if statistics.stdev(values) < 1e-3:
        return
    described = DescrStatsW(values)
    (test,) = paired_tests([PairedLevel(dict(enumerate(values)), 1e-12)])
    p = described.ttest_mean(bound, "larger")[1]
    assert (test.p_above(bound) if p < 0.5 else test.p_below(bound)) == pytest.approx(min(p, 1 - p), abs=1e-9)
    assert (test.estimate.low, test.estimate.high) == pytest.approx(described.tconfint_mean(0.05))
