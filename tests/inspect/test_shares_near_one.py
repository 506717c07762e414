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
