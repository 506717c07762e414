"""Sparse training from the command line: its training FLOPs in every kind of output, and those of the shipped plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from command_line import CliHarness

from tickdsl.report import read_source, render_report
from tickdsl.results.formatting import count

PLANS = Path(__file__).parents[2] / "plans"
ARMS = """arm static { prune weights erk to 80% by random at init except fc; retrain scratch }
arm set {
    prune weights erk to 80% by random at init except fc; retrain scratch; evolve weights 30% grow=random every=2it
}
arm rigl { prune weights erk to 80% by random at init except fc; retrain scratch; evolve weights 30% every=2it }
arm gradual { prune weights to 80% from 1it to 5it every 2it except fc }
arm imp { prune weights to 80% x 2 except fc; rewind weights to 2it }
arm back { prune weights 50% except fc; rewind lr; grow weights all; retrain fine-tune 1ep }
compare static, set, rigl, gradual, imp, back
report accuracy, sparsity, train-flops
"""


def _training_flops(results: Any) -> dict[str, float]:
    """The multiply-adds of all trainings that led to the last level of each arm, the mean over its seeds."""
    return {
        arm["id"]: arm["levels"][-1]["contestants"]["ticket"]["figures"]["train-flops"]["mean"]
        for arm in results["arms"]
    }


def test_training_flops_are_shown_in_the_table_and_in_the_report(harness: CliHarness) -> None:
    harness.write(ARMS)
    result = harness.run()
    assert result.exit == 0, result.err
    found = _training_flops(harness.results)
    assert found["static"] == found["set"] < found["rigl"] < found["gradual"] < found["imp"]
    source = read_source(harness.last_run)
    texts = [result.out, *(render_report(kind, [source]).decode() for kind in ("md", "html"))]
    for text in texts:
        plain = re.sub(r"\s+", " ", text)
        assert "MACs" in plain
        assert all(count(value) in plain for value in found.values()), found


@pytest.mark.slow
def test_the_arms_of_the_plan_take_equal_training_flops(harness: CliHarness) -> None:
    """On an eighth of the images, in batches of an eighth: as many steps, so the same shares of what training takes.

    Gradual pruning takes 7% less, which the plan's outcome says; the others differ by less than 2%.
    """
    text = (PLANS / "sparse-training.plan").read_text("utf-8")
    small = {
        "small-cnn on digits": "small-cnn\ndata synthetic size=8 channels=1 train=180 test=40",
        "batch=64": "batch=8",
        "seeds 3": "seeds 1",
    }
    for old, new in small.items():
        assert old in text
        text = text.replace(old, new)
    harness.write(text, head="")
    result = harness.run()
    assert result.exit == 0, result.err
    found = _training_flops(harness.results)
    assert found.keys() == {"imp", "gradual", "static", "set", "rigl"}
    imp = found["imp"]
    assert {name: value / imp for name, value in found.items()} == {
        **dict.fromkeys(found, pytest.approx(1, abs=0.02)),
        "gradual": pytest.approx(0.94, abs=0.03),
    }
    # At equal density: a tenth of the weights is left in all of them.
    left = [arm["levels"][-1]["contestants"]["ticket"]["sparsity"] for arm in harness.results["arms"]]
    assert left == pytest.approx([left[0]] * 5, abs=0.002)
