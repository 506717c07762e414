"""A share that is nearly all, or nearly nothing, is not printed as all or nothing."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(("target", "shown"), [("99.97%", "99.97%"), ("99%", "99.0%")])
def test_the_sparsity_of_a_level_is_not_rounded_up_to_all_weights(harness: Any, target: str, shown: str) -> None:
    harness.write(
        f"train 1ep\nprune weights to {target}; rewind lr\n",
        head="model small-cnn\ndata synthetic size=8 train=64 test=32\n",
    )
    result = harness.call("plan", harness.plan, "--store", harness.store)
    assert result.exit == 0, result.err
    (row,) = (line.split() for line in result.out.splitlines() if line.split()[:1] == ["1"])
    assert row[3] == shown


@pytest.mark.parametrize("unit", ["weights", "filters"])
def test_the_most_that_can_be_removed_can_be_removed(harness: Any, unit: str) -> None:
    head = "model small-cnn\ndata synthetic size=8 train=64 test=32\n"
    harness.write(f"train 1ep\nprune {unit} to 99.999%; rewind lr\n", head=head)
    refused = harness.call("check", harness.plan)
    assert refused.exit == 1 and f"99.999% of the {unit} cannot be removed" in refused.out
    offered = refused.out.partition("at most ")[2].partition(" ")[0]
    harness.write(f"train 1ep\nprune {unit} to {offered}; rewind lr\n", head=head)
    assert harness.call("check", harness.plan).exit == 0
