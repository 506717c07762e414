"""What cannot be read is named with the way out, in the words of the plan."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

PRUNE = "prune weights 30%; rewind lr"


def found(text: str, code: str) -> tuple[str, str]:
    """The message and the help of the only finding with this code."""
    (finding,) = [d for d in check(load_source(Source("test.plan", text))).diagnostics if d.code == code]
    return finding.message, str(finding.help)


@pytest.mark.parametrize(
    ("setting", "code", "way_out"),
    [
        (r'data folder path="..\birds\2024"', "TD130", '"../birds/2024"'),
        (r'data folder path="..\\birds"', "TD130", '"../birds"'),
        (r'model small-cnn on digits weights="old\best.pth"', "TD131", '"old/best.pth"'),
    ],
)
def test_backslashes_in_paths(setting: str, code: str, way_out: str) -> None:
    assert found(f"{setting}\n{PRUNE}", code)[1].endswith(f"; write paths with `/`: {way_out}")


def test_other_paths_have_no_such_help() -> None:
    assert "write paths" not in found(f'data folder path="../birds"\n{PRUNE}', "TD130")[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"train 4ep label-smoothing=1\n{PRUNE}", "label-smoothing=1: must be"),
        (f"train 4ep opt=adam nesterov=on\n{PRUNE}", "nesterov needs opt=sgd"),
        ("prune weights 30%; retrain one-cycle 4ep pct-start=0%", "pct-start=0: must be"),
    ],
)
def test_invalid_recipes_are_told_in_words_of_the_plan(text: str, message: str) -> None:
    assert message in found(text, "TD305")[0]
