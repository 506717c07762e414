"""A ticket that was found on one task is trained and judged on another: the body is kept, the head is drawn anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from step_runner import step_runner

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plugins import permission
from tickdsl.training.tasks import TASKS

CLASSIFY = "data digits samples=200"
REGRESS = 'data "task_plugins:spots"'
TAG = 'data "task_plugins:tagged"'


@pytest.fixture(autouse=True)
def code_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(permission, "_allowed", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def plan(source: str, target: str, prune: str) -> tuple[str, str]:
    head = f"model small-cnn width=0.5\n{source}\ntrain 2ep batch=32 lr=0.02\n"
    return head, f"{prune}; rewind lr\ntransfer to {target.removeprefix('data ')}\ncompare random-init, dense\n"


PAIRS = [(CLASSIFY, REGRESS), (REGRESS, CLASSIFY), (CLASSIFY, TAG), (TAG, REGRESS)]


@pytest.mark.parametrize("prune", ["prune weights global 40%", "prune filters local 30%"])
@pytest.mark.parametrize(("source", "target"), PAIRS, ids=["to regress", "to classify", "to tag", "from tag"])
def test_the_body_is_kept_and_the_head_is_new(source: str, target: str, prune: str, tmp_path: Path) -> None:
    if "tag" not in TASKS and TAG in (source, target):
        pytest.skip("there is no task `tag` here")
    head, text = plan(source, target, prune)
    found = step_runner(tmp_path, text, head=head)
    assert [d for d in check(load_source(Source("t.plan", head + text))).diagnostics if d.severity == "error"] == []
    level = found.levels("ticket")[0]
    ticket = found.study.step(level.ticket)
    weights = ticket.parents["weights"]
    moved = found.study.step(weights)
    assert moved.operation == "transfer"
    after, before, fresh = (found.weights(key) for key in (weights, moved.parents["weights"], moved.parents["head"]))
    network = found.context.dense_network(ticket)
    structure = found.context.structure(level.structure, network.graph)
    kept = found.context.weights(moved.parents["weights"], structure, network.graph)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, fresh[name] if name.startswith("fc.") else kept[name]), name
    metrics: dict[str, Any] = found.metrics(level.ticket)
    task = {CLASSIFY: "classify", REGRESS: "regress", TAG: "tag"}[target]
    assert ("accuracy" in metrics) is (task == "classify")
    assert task == "classify" or metrics["metric"] == TASKS[task].primary.name
    for name in ("dense", "random-init"):
        other = found.metrics(found.measured_step(name, 0 if name == "dense" else 1))
        assert ("accuracy" in other) is (task == "classify")


def findings(source: str, target: str, module: str = "small-cnn width=0.5") -> list[Any]:
    head, text = plan(source, target, "prune weights 40%")
    head = head.replace("small-cnn width=0.5", module)
    found = check(load_source(Source("t.plan", head + text))).diagnostics
    return [each for each in found if each.severity == "error"]


def test_a_body_that_depends_on_the_targets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = findings(CLASSIFY, REGRESS, '"task_plugins:two_layers_of_outputs"')
    assert (
        found.code == "TD478"
        and "between" in found.message
        and "does not fit" in found.message.replace("do not", "does not")
    )
    assert found.span.text == '"task_plugins:spots"' and found.notes and "on digits" in found.notes[0]


def test_inputs_of_another_shape_are_one_finding() -> None:
    (found,) = findings("data digits size=16", REGRESS)
    assert found.code == "TD413" and "images of 1×16×16" in found.message and "1×8×8" in found.message
