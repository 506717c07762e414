"""Criteria that look at pictures, run from the command line: jobs change no bit, and nothing is done twice."""

from __future__ import annotations

from typing import Any

PLAN = """\
sweep criterion in [snip, grasp, synflow, expected-abs, hrank]
arm start { prune filters 30% by $criterion at init }
arm later { prune filters 30% by taylor; rewind lr }
"""


def test_jobs_change_no_bit_of_a_ranking(bench: Any) -> None:
    bench.write(PLAN)
    assert bench.run("--jobs", 2).exit == 0
    with_two = bench.bits()
    assert bench.run("--store", bench.folder / "other").exit == 0
    assert bench.bits(bench.folder / "other") == with_two
    assert bench.run().exit == 0
    assert bench.begun == []


def test_a_plan_is_forecast_without_its_pictures(bench: Any) -> None:
    """`tickdsl plan` counts; what only pictures can rank is not ranked there."""
    bench.write(PLAN + "arm layers { model resnet20 width=0.25; prune layers 1 x 2 by cka at init }\n")
    said = bench.call("plan", bench.plan, "--store", bench.store)
    assert said.exit == 0
    assert "start[criterion=grasp]" in said.out and "layers" in said.out
