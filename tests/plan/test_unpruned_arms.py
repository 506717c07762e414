"""Arms without a prune: networks of their own, which teach and are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import step_runner

from tickdsl.checks import check
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan

TEXT = """seeds 2
arm teacher { model small-cnn width=0.75; train 2ep }
arm student { prune weights 50% x 2; rewind lr; distill from teacher }
"""


def plan_of(text: str) -> Plan:
    plan = resolve(load_source(Source("x.plan", text))).plan
    assert plan is not None
    return plan


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("x.plan", text))).diagnostics if d.severity == "error"}


def test_it_has_a_dense_network_and_no_levels() -> None:
    plan = plan_of("train 3ep\narm wide { model small-cnn width=2 }\narm a { prune weights 50% x 2; rewind lr }")
    study = lower(plan, fingerprint=lambda spec: "f", rounds=lambda arm, prune: 1)
    wide = [m for m in study.measurements if m.arm == "wide"]
    assert [(m.contestant, m.level) for m in wide] == [("dense", 0)]
    assert {level.arm for level in study.levels} == {"a"}
    steps = [study.step(key).operation for key, node in study.graph.nodes(data=True) if ("wide", 1) in node["uses"]]
    assert sorted(steps) == ["init", "train"]


def test_it_teaches_with_its_only_network(tmp_path: Path) -> None:
    found = step_runner(tmp_path, TEXT)
    for seed in (1, 2):
        for level in found.levels("student", seed):
            step = found.study.step(level.ticket)
            assert step.parents["teacher"] == found.measured_step("dense", 0, "teacher", seed)
    found.run_step(found.levels("student")[-1].ticket)
    assert found.study.step(found.measured_step("dense", 0, "teacher")).args["model"]["options"] == {"width": 0.75}


def test_it_is_trained_on_all_data_where_others_are_split() -> None:
    text = "train 3ep\nsplit classes 2\narm wide { model small-cnn width=2 }\n"
    text += "arm a { prune weights 50% x 2 except fc; overlap; rewind weights }"
    assert codes(text) == set()
    study = lower(plan_of(text), fingerprint=lambda spec: "f", rounds=lambda arm, prune: 1)
    steps = [study.step(key) for key, node in study.graph.nodes(data=True) if ("wide", 1) in node["uses"]]
    assert all("part" not in step.args for step in steps)


@pytest.mark.parametrize(
    ("arm", "code"),
    [
        ("arm b {}", "TD002"),
        ("arm b { train 9ep; rewind lr }", "TD301"),
        ("arm b { split classes 2 }", "TD440"),
        ("arm b { train 9ep }\narm c { prune weights matching b; rewind lr }", "TD521"),
    ],
)
def test_what_an_arm_without_a_prune_cannot_have(arm: str, code: str) -> None:
    assert code in codes(f"seeds 3\narm a {{ prune weights 20%; rewind lr }}\n{arm}\n")


def test_plans_with_such_arms_pass_all_checks() -> None:
    head = "seeds 3\ntrain 4ep\n"
    for text in (
        TEXT,
        head + "arm only { model small-cnn width=0.5 }",
        head + "arm a { train 5ep }\narm b { model small-cnn width=0.5 }\nstop when sparsity > 90%",
        head + "arm a { train 5ep }\narm b { prune filters 20% x 3; rewind lr }\nstop when sparsity > 40%\n"
        "stop when drop > 1%",
    ):
        assert codes(text) == set(), text


def test_it_is_written_out_with_all_its_settings() -> None:
    for text in (
        TEXT,
        "arm only { model small-cnn }",
        "model small-cnn on digits\narm a { train 3ep }\narm b { train 3ep }",
    ):
        expanded = expand(plan_of(text))
        assert expand(plan_of(expanded)) == expanded
