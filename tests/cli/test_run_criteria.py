"""Criteria that score on images: `--jobs` changes no bit, and nothing is run twice."""

from __future__ import annotations

from typing import Any

import pytest

PLAN = """\
sweep criterion in [snip, grasp, synflow, expected-abs, hrank]
arm start { prune filters 30% by $criterion at init }
arm later { prune filters 30% by taylor; rewind lr }
"""


@pytest.mark.slow
def test_jobs_change_no_bit_of_a_ranking(harness: Any) -> None:
    harness.write(PLAN)
    assert harness.run("--jobs", 2).exit == 0
    with_two = harness.weight_bytes()
    assert harness.run("--store", harness.folder / "other").exit == 0
    assert harness.weight_bytes(harness.folder / "other") == with_two
    assert harness.run().exit == 0
    assert harness.started_steps == []


def test_a_plan_is_forecast_without_images(harness: Any) -> None:
    """`tickdsl plan` does not run criteria that need images; it only counts."""
    harness.write(PLAN + "arm layers { model resnet20 width=0.25; prune layers 1 x 2 by cka at init }\n")
    result = harness.call("plan", harness.plan, "--store", harness.store)
    assert result.exit == 0
    assert "start[criterion=grasp]" in result.out and "layers" in result.out
