"""`compare … at=` says how two arms are compared, so that it does nothing for one, and something for two."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

ONE, TWO = "arm a { prune weights 20%; rewind lr }\n", "arm b { prune weights 30%; rewind lr }\n"


def found(text: str) -> bool:
    plan = f"data digits\ntrain 1ep lr=0.1\nseeds 3\n{text}"
    return any(
        finding.code == "TD119" for finding in check(load_source(Source("x.plan", plan)), network=False).diagnostics
    )


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("prune weights 20% x 2; rewind lr\ncompare random-init at=flops", True),
        (f"{ONE}{TWO}compare a, random-init at=flops", True),
        (f"{ONE}{TWO}compare all at=flops", False),
        ("sweep s in [10%, 20%]\nprune weights $s; rewind lr\ncompare random-init at=flops", False),
        # Arms with errors are arms, too.
        (f"model nosuch\n{ONE}{TWO}compare all at=flops", False),
    ],
)
def test_with_one_arm_it_does_nothing(text: str, idle: bool) -> None:
    assert found(text) == idle
