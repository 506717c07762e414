"""Plans that prune heads of attention and dims within heads: the table, results.json, the report and the preview."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from command_line import CliHarness

HEAD = """\
model gpt layers=1 heads=4 dim=16
data corpus length=8 train=48 test=24
train 1ep opt=adam lr=0.003 batch=24
"""
PLAN = """\
arm heads { prune heads 25% x 2 by gate; rewind lr }
arm dims  { prune head-dims local 50% multiple=2; rewind lr }  # ok TD509
compare heads, dims, random-structure
"""


@pytest.mark.slow
def test_what_is_left_of_pruned_units_is_shown_everywhere(harness: CliHarness) -> None:
    harness.write(PLAN, head=HEAD)
    preview = harness.call("plan", harness.plan).out
    assert "heads left" in preview and "head-dims left" in preview and "filters left" not in preview
    finished = harness.run()
    assert finished.exit == 0, finished.err
    results: dict[str, Any] = harness.results
    jsonschema.validate(
        results, json.loads(files("tickdsl.results").joinpath("results.schema.json").read_text("utf-8"))
    )
    left = {arm["name"]: [_units(level) for level in arm["levels"]] for arm in results["arms"]}
    assert [units["heads"] for units in left["heads"]] == [1.0, 0.75, 0.5]
    assert [units["head-dims"] for units in left["heads"]] == [1.0, 1.0, 1.0]
    assert [units["head-dims"] for units in left["dims"]] == [1.0, 0.5]
    rows = [line.split() for line in finished.out.splitlines()]
    assert ["round", "n", "left", "left"] in [row[:4] for row in rows]
    left_in_table = [row[3] for row in rows if row[:1] in (["1"], ["2"]) and row[1:2] == ["1"]]
    assert left_in_table == ["75.0%", "50.0%", "50.0%"]
    report = harness.folder / "report.html"
    assert harness.call("report", harness.last_run.folder, "--to", report).exit == 0
    assert {"heads left", "head-dims left"} <= set(re.findall(r"[a-z-]+ left", report.read_text("utf-8")))


def _units(level: Mapping[str, Any]) -> Mapping[str, float]:
    contestants = level["contestants"]
    units: Mapping[str, float] = contestants["dense" if level["level"] == 0 else "ticket"]["units"]
    return units
