"""`benchmarks/outcomes.py`, which prints the numbers in the plans' heads and on the papers' pages."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from types import ModuleType

import pytest
from written_runs import write_run

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import read_source
from tickdsl.records import read_events
from tickdsl.results.state_builder import build_state

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outcomes", ROOT / "benchmarks" / "outcomes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_compared_arms_are_those_of_the_plans(outcomes: ModuleType) -> None:
    for name, patterns in outcomes.PAIRS.items():
        plan = resolve(load_source(read_source(ROOT / "plans" / f"{name}.plan"))).plan
        assert plan is not None
        for pattern in patterns:
            pairs = list(outcomes.expanded(pattern, plan.arms))
            assert pairs
            assert {arm.partition("/")[0] for pair in pairs for arm in pair} <= {arm.id for arm in plan.arms}


def test_a_difference_of_two_arms_is_paired_by_seed(
    outcomes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_run(tmp_path)
    state = build_state(read_events(paths.events))
    first, second = (arm.id for arm in state.arms[:2])
    monkeypatch.setitem(outcomes.PAIRS, "colt", (f"{first} - {second}", f"{first} - {first}/random-init"))
    outcomes.main(["--folder", str(paths.folder)])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {first} - ")]
    assert {row[0] for row in rows} == {f"| {first} - {second}", f"| {first} - {first}/random-init"}
    for pair, level, difference, verdict in rows:
        other = first if pair.endswith("random-init") else second
        contestant = "random-init" if other == first else "ticket"
        by_seed = [
            state.metrics[first, "ticket", int(level), seed].accuracy
            - state.metrics[other, contestant, int(level), seed].accuracy
            for seed in state.seeds
            if (other, contestant, int(level), seed) in state.metrics
            and (first, "ticket", int(level), seed) in state.metrics
        ]
        shown, half = (float(number) for number in difference.replace("−", "-").split(" ± "))
        assert shown == pytest.approx(100 * statistics.fmean(by_seed), abs=0.006)
        assert half > 0 and verdict.strip(" |") in ("ahead", "behind", "undecided")
