"""An edit to the code behind an operation raises its version, or is called neutral: stores keep what old code made."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import operation_code
import pytest
from operation_code import COMMAND, ROOT, Code, changed_modules, read_table, unexplained

from tickdsl.plan.steps import OPERATIONS


@functools.cache
def code() -> Code:
    return Code()


def reached_modules(operation: str) -> set[str]:
    return {module.removeprefix("tickdsl.") for module, _ in code().reached(operation)}


def test_every_operation_has_the_version_of_its_code() -> None:
    kept, now = read_table(), code().table()
    blamed, where = unexplained(kept, now), ", ".join(changed_modules(kept, now))
    assert not blamed, (
        f"the code of {', '.join(blamed)} has changed, in {where}: if results change, raise the versions in "
        f"tickdsl/plan/steps.py and run `{COMMAND}`; if none does, run `{COMMAND} neutral`"
    )
    assert kept == now, f"the table is not of this code, which differs in {where}: run `{COMMAND}`"


def test_what_computes_a_result_is_reached_and_what_carries_it_is_not() -> None:
    training = {"training.loop", "training.step.optimisers", "training.data.augment", "training.recipes.recipe"}
    assert {*training, "training.stacked.training", "training.models.resnet"} <= reached_modules("train")
    assert {"pruning.criteria.norms", "pruning.criteria.saliency", "pruning.selection"} <= reached_modules("prune")
    assert "metrics.latency" in reached_modules("latency") and "metrics.barrier" in reached_modules("barrier")
    for operation in OPERATIONS:
        assert {"graph.coupling.rules.shapes", "graph.tracing.trace"} <= reached_modules(operation), operation
    everything = set().union(*map(reached_modules, OPERATIONS))
    assert not training & reached_modules("overlap") and "pruning.criteria.norms" not in reached_modules("evaluate")
    assert not {name for name in everything if name.startswith(("cli", "records", "report", "results", "checks"))}


def edited(module: str, old: str, new: str, operations: tuple[str, ...] = ("overlap", "transfer")) -> list[str]:
    """Those of the operations that an edit of a module concerns."""
    text = (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
    assert old in text
    after = Code({module: text.replace(old, new, 1)})
    digests = [(name, code().digest(code().reached(name)), after.digest(after.reached(name))) for name in operations]
    return [name for name, before, now in digests if before != now]


def test_an_edit_concerns_the_operations_that_use_it() -> None:
    assert edited("tickdsl.pruning.overlap", "def overlap(", "def overlap(unused=1, *,") == ["overlap"]
    assert edited("tickdsl.pruning.overlap", "def overlap(", "# A comment.\n\n\ndef overlap(") == []
    assert edited("tickdsl.graph.structure", '"""', '"""Otherwise described: ') == []


def test_the_command_wants_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, Any] = {
        "operations": {"train": {"version": 1, "code": "old"}, "prune": {"version": 1, "code": "old"}},
        "modules": {"tickdsl.training.loop": "old"},
    }
    now = json.loads(json.dumps(table).replace("old", "new"))
    path = tmp_path / "table.json"
    monkeypatch.setattr(operation_code, "TABLE", path)
    monkeypatch.setattr(operation_code, "ROOT", tmp_path)
    monkeypatch.setattr(Code, "table", lambda self: now)
    for versions, words, code in (
        ((1, 1), [], 1), ((2, 1), [], 1), ((2, 2), [], 0), ((1, 1), ["neutral"], 0), ((1, 1), ["yes"], 1)
    ):  # fmt: skip
        path.write_text(json.dumps(table))
        for entry, version in zip(now["operations"].values(), versions, strict=True):
            entry["version"] = version
        assert operation_code.main(words) == code
        assert json.loads(path.read_text()) == (table if code else now)
