"""A transferred ticket has something left to train, whichever of its rounds is transferred."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

HEAD = "model lenet-300-100 width=0.1\ndata digits\ntrain 1ep lr=0.05\nseeds 3\n"
#: One training step an epoch.
SMALL = "synthetic size=8 channels=1 train=64 test=32"


def codes(pipeline: str) -> list[str]:
    report = check(load_source(Source("x.plan", HEAD + pipeline)))
    return [finding.code for finding in report.diagnostics if finding.severity == "error"]


@pytest.mark.parametrize(
    "pipeline",
    [
        f"prune weights 30% at 50%; transfer to {SMALL}",
        f"prune weights 30% at 50%; prune weights 20%; rewind weights to init; transfer to {SMALL}",
        f"prune weights 30%; rewind lr to 50%; prune weights 20%; rewind lr to init; transfer to {SMALL}",
        f"prune weights 30% x 2 at 50%\narm a {{ prune weights 20%; retrain linear 2ep; transfer to {SMALL} }}",
    ],
)
def test_it_is_found_in_every_round(pipeline: str) -> None:
    assert codes(pipeline) == ["TD302"]


@pytest.mark.parametrize(
    "pipeline",
    [
        f"prune weights 30%; rewind lr; prune weights 20%; rewind lr; transfer to {SMALL}",
        f"prune weights 30% at 50%; transfer to {SMALL} {{ retrain linear 2ep }}",
        f"prune weights 30% at 50%; prune weights 20%; rewind lr; transfer to {SMALL.replace('64', '512')}",
    ],
)
def test_what_has_steps_left_is_accepted(pipeline: str) -> None:
    assert codes(pipeline) == []
