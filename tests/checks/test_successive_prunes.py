"""Later prunes of an arm that find nothing to remove (TD202)."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

HEAD = "model conv2 on digits width=0.05\ntrain 2ep\n"  # two layers of 3 filters, and 13 neurons in each of two


def found(pipeline: str, code: str = "TD202", head: str = HEAD) -> list[str]:
    report = check(load_source(Source("x.plan", head + pipeline + "\n")))
    return [finding.span.text for finding in report.diagnostics if finding.code == code]


@pytest.mark.parametrize(
    ("pipeline", "spans"),
    [
        ("prune filters local 20%; rewind lr; prune filters local 20% in conv1; rewind lr", ["20%"]),
        ("prune filters local 20%; rewind lr; prune filters local 30%; rewind lr", []),
        ("prune filters global 1; rewind lr; prune filters global 20%; rewind lr", []),
        ("prune filters global 60%; rewind lr; prune filters global 20%; rewind lr", ["20%"]),
        ("prune filters to 60%; rewind lr; prune filters to 67%; rewind lr", ["to 67%"]),
        ("prune filters local 20%; rewind lr; prune neurons local 20%; rewind lr", []),
        ("cycle 2 { prune neurons 1; rewind lr; prune filters local 20%; rewind lr }", ["20%"]),
        ("cycle 2 { prune neurons 1; rewind lr; prune filters local 1; rewind lr }", []),
        ("prune weights to 80%; rewind lr; prune weights 20% until 81%; rewind lr", []),
        ("prune filters local 2; rewind lr; prune filters global 50%; rewind lr", ["50%"]),
    ],
)
def test_a_later_prune_needs_something_to_remove(pipeline: str, spans: list[str]) -> None:
    assert found(pipeline) == spans


@pytest.mark.parametrize(
    ("pipeline", "code", "head"),
    [
        ("prune filters local 20%; rewind lr; prune filters local 2; rewind lr", "TD405", HEAD),
        ("prune filters global 2; rewind lr; prune filters global 3; rewind lr", "TD405", HEAD),
        ("prune layers 6; rewind lr; prune layers 4; rewind lr", "TD408", "model resnet20 on digits\ntrain 2ep\n"),
        ("prune filters 1; rewind lr; prune filters to 90%; rewind lr", "TD404", HEAD),
    ],
)
def test_a_later_prune_cannot_remove_more_than_is_left(pipeline: str, code: str, head: str) -> None:
    assert len(found(pipeline, code, head)) == 1
