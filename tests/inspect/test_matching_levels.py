"""`tickdsl plan` forecasts the levels of an arm that matches another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tickdsl.cli import main
from tickdsl.inspect.level_forecast import forecast_levels
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower


@pytest.mark.parametrize(
    ("first", "second", "metric"),
    [
        ("prune weights 40% x 3; rewind lr", "prune weights matching first by random; rewind lr", "params"),
        ("prune filters local 30% x 2; rewind lr", "prune filters local matching first by fpgm; rewind lr", "macs"),
        ("prune weights 90%; rewind lr", "prune weights matching first by snip at init", "sparsity"),
    ],
)
def test_the_levels_are_those_of_the_matched_arm(first: str, second: str, metric: str) -> None:
    text = f"arm first {{ {first} }}\narm second {{ {second} }}"
    plan = resolve(load_source(Source("test.plan", text))).plan
    assert plan is not None
    study = lower(plan, fingerprint=lambda data: "f", rounds=lambda arm, prune: 1)
    levels = [[row[metric] for row in forecast_levels(study, arm, Path("data"))] for arm in plan.arms]
    assert levels[0] == levels[1] and len(levels[0]) > 1


@pytest.mark.parametrize(
    "second",
    ["prune weights matching first by random; rewind lr", "prune weights 40%; rewind lr; distill from first"],
)
def test_a_level_counts_the_epochs_of_its_own_arm(
    second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = "prune weights 40% x 3; rewind lr"
    plan = tmp_path / "two.plan"
    plan.write_text(f"model small-cnn on digits\ntrain 5ep\narm first {{ {first} }}\narm second {{ {second} }}\n")
    assert main(["plan", str(plan)]) == 0
    rows = re.findall(r"^ *\d+(?: \(dense\))?  .*%  .*%  +(\d+)  ", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) >= 6 and set(rows) == {"5"}
