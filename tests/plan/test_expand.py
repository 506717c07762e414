"""Expanded plans have the same steps and no new findings, and expanding them again changes nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from valid_plans import plans

from tickdsl.checks import check, check_file
from tickdsl.checks.expansion import expand_silently as written
from tickdsl.cli import main
from tickdsl.lang.expansion import DEFAULT_METRICS, expand, unique_arm_names
from tickdsl.lang.findings.diagnostic_codes import CODES
from tickdsl.lang.meaning.resolve import ResolvedPlan, resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Include, Let, Ref, Source, Sweep, walk
from tickdsl.lang.writing.format import format_source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.study import LoweringError, Study

ROOT = Path(__file__).parents[2]
FOLDERS = ("plans", "tests/plan/frozen", "tests/tui")
SHIPPED = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.plan")]
    + [path for path in (ROOT / "tests" / "invalid").glob("*.plan") if CODES[path.name[:5]][1] != "error"]
)
#: The plans at full size are like the small ones, and take long to trace.
PAPERS_SLOW = [pytest.param(path, marks=pytest.mark.slow) if path.parent.name == "papers" else path for path in SHIPPED]
ASSUMED = {"TD901", "TD902", "TD905", "TD906", "TD907"}


def read(text: str) -> ResolvedPlan:
    return resolve(load_source(Source("x.plan", text)))


def accepted(text: str) -> Plan | None:
    """The plan, if `check` finds no error in it; its networks are not traced."""
    return check(load_source(Source("x.plan", text)), network=False).plan


def study(plan: Plan) -> Study:
    return lower(plan, fingerprint=lambda spec: repr((spec.name, sorted(spec.options.items()))), rounds=lambda a, p: 3)


def same_steps(plan: Plan, other: Plan) -> None:
    """Assert that two plans have the same steps, measured for the same contestants of their arms, in order."""
    one, two = study(plan), study(other)
    assert set(one.graph) == set(two.graph)
    renamed = {arm.id: other.arms[place].id for place, arm in enumerate(plan.arms)}
    for mine, theirs in zip(one.measurements, two.measurements, strict=True):
        assert renamed[mine.arm] == theirs.arm
        assert (mine.contestant, mine.level, mine.seed, mine.step, mine.final_only) == (
            theirs.contestant, theirs.level, theirs.seed, theirs.step, theirs.final_only,
        )  # fmt: skip
    assert [(level.level, level.until, level.ends) for level in one.levels] == [
        (level.level, level.until, level.ends) for level in two.levels
    ]


def expand_silently(plan: Plan) -> Plan:
    """Expand a plan, assert the properties of the text, and resolve it again."""
    text = expand(plan)
    assert format_source(Source("x.plan", text)) == text
    loaded = load_source(Source("x.plan", text))
    assert not [node for node in walk(loaded.statements) if isinstance(node, Let | Sweep | Ref | Include)]
    again = resolve(loaded)
    assert again.plan is not None
    assert not {diagnostic.code for diagnostic in again.diagnostics} & ASSUMED
    assert expand(again.plan) == text
    return again.plan


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(plans())
def test_an_expanded_plan_has_the_same_steps(text: str) -> None:
    plan = accepted(text)
    assume(plan is not None)
    assert plan is not None
    # Recipes of arms after prunes that a sweep changes have no expanded text.
    assume(all(arm.fork is None for arm in plan.arms) or not any(arm.sweep for arm in plan.arms))
    same_steps(plan, expand_silently(plan))


@pytest.mark.slow
@settings(deadline=None, max_examples=2_000, suppress_health_check=list(HealthCheck))
@given(plans())
def test_two_thousand_expanded_plans(text: str) -> None:
    test_an_expanded_plan_has_the_same_steps.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@pytest.mark.slow
@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(plans())
def test_what_check_refuses_is_lowered_or_refused_in_words(text: str) -> None:
    """A plan that only resolves may mean no steps: then `lower` says so, with an error of its own kind."""
    plan = read(text).plan
    assume(plan is not None and accepted(text) is None)
    assert plan is not None
    with contextlib.suppress(LoweringError):
        study(plan)


def test_a_plan_that_means_no_steps_is_refused_in_words() -> None:
    text = "train 4ep\ncycle 1 { prune weights 30%; prune weights 30% at init }\n"
    plan = read(text + "prune weights 30% until mask-distance < 0.2; rewind lr\n").plan
    assert plan is not None
    with pytest.raises(LoweringError, match="needs a training before its prune") as caught:
        study(plan)
    assert "tickdsl check" in str(caught.value.hint)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_expanded_shipped_plans(path: Path) -> None:
    plan = check_file(path, network=False).require_plan()
    same_steps(plan, expand_silently(plan))


@pytest.mark.parametrize("path", PAPERS_SLOW, ids=[str(path.relative_to(ROOT)) for path in SHIPPED])
def test_an_expanded_plan_has_no_new_warnings(path: Path) -> None:
    network = path.is_relative_to(ROOT / "plans")
    report = check_file(path, network=network)
    if report.plan is None:  # its data is not on this machine
        network, report = False, check_file(path, network=False)
    text = written(report.require_plan(), report.diagnostics, network=network)
    assert format_source(Source("x.plan", text)) == text
    again = check(load_source(Source("x.plan", text)), network=network)
    assert {d.code for d in again.diagnostics if d.severity != "note"} <= {d.code for d in report.diagnostics}
    assert again.plan is not None
    same_steps(report.require_plan(), again.plan)
    assert written(again.plan, again.diagnostics, network=network) == text


HEAD = "model small-cnn on digits\ntrain 4ep\nseeds 2\n"


def arm_names(text: str) -> list[str]:
    plan = read(HEAD + text).plan
    assert plan is not None
    return list(unique_arm_names(plan.arms).values())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("sweep s in [local, global]\nprune weights $s 20%; rewind lr", ["ticket-local", "ticket-global"]),
        ("sweep p in [20%, 12.5%]\narm a { prune weights $p; rewind lr }", ["a-20", "a-12.5"]),
        # Ambiguous values are prefixed with the name of the sweep, then numbered.
        ("sweep p in [2, 2%]\narm a { prune filters $p; rewind lr }", ["a-p-2", "a-p-2-2"]),
        ("sweep s in [init, 2ep]\narm random { prune weights 20%; rewind weights to $s }",
         ["random-s-init", "random-s-2ep"]),
        ("sweep s in [local, global]\narm a { prune weights $s 20%; rewind lr }\narm a-local { prune weights 9% }",
         ["a-s-local", "a-s-global", "a-local"]),
        ('sweep l in ["layer1.**", "*"]\narm a { prune weights 20% in $l; rewind lr }', ["a-l-layer1", "a-l"]),
        ("sweep l in [layer1.**, *]\narm a { prune weights 20% in $l; rewind lr }", ["a-l-layer1", "a-l"]),
        ("sweep l in [[conv1, conv2], fc]\narm a { prune weights 20% in $l; rewind lr }", ["a-conv1-conv2", "a-fc"]),
    ],
)  # fmt: skip
def test_arms_of_a_sweep_have_distinct_names(text: str, wanted: list[str]) -> None:
    assert arm_names(text) == wanted
    plan = read(HEAD + text).plan
    assert plan is not None
    assert [arm.name for arm in expand_silently(plan).arms] == wanted


def test_a_teacher_from_a_sweep_has_the_same_sweep_values() -> None:
    plan = read(
        HEAD + "sweep p in [20%, 40%]\narm big { prune weights $p; rewind lr }\n"
        "arm kd { prune filters matching big; rewind lr; distill from big }\ncompare kd"
    ).plan
    assert plan is not None
    again = expand_silently(plan)
    assert [arm.referenced_arms for arm in again.arms] == [("big-20",), ("big-40",)]
    assert [arm.name for arm in again.helpers] == ["big-20", "big-40"]
    same_steps(plan, again)


def test_rounds_that_repeat_stay_a_cycle() -> None:
    plan = read(
        HEAD + "cycle 3 { prune weights 20%; prune filters 10%; rewind lr; prune weights 5%; rewind weights }"
    ).plan
    assert plan is not None
    text = expand(plan)
    assert text.count("cycle") == 1 and text.count("prune") == 3
    same_steps(plan, expand_silently(plan))


def test_includes_and_flags_are_resolved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.plan").write_text("model small-cnn on digits width=0.5\nlet share = 20%\nsweep n in [1, 2]\n")
    (tmp_path / "a.plan").write_text('include "base.plan"\nprune weights $share x $n; rewind lr  # ok TD505\n')
    assert main(["plan", str(tmp_path / "a.plan"), "--expand", "--set", "share=30%", "--set", "n=[2, 4]"]) == 0
    text = capsys.readouterr().out
    assert "prune weights global 30% of remaining x 4 by magnitude" in text and "$" not in text and "width=0.5" in text
    (tmp_path / "b.plan").write_text(text)
    assert main(["check", str(tmp_path / "b.plan"), "--strict"]) == 0, "silenced findings stay silenced"
    capsys.readouterr()
    overrides = ["--set", "share=30%", "--set", "n=[2, 4]"]
    keys = []
    for words in (["a.plan", *overrides], ["b.plan"]):
        assert main(["plan", str(tmp_path / words[0]), *words[1:], "--json"]) == 0
        keys.append({step["key"] for step in json.loads(capsys.readouterr().out)["steps"]})
    assert keys[0] == keys[1]


def test_only_expands_one_arm_with_its_dependencies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = "arm big { prune weights 20%; rewind lr }\narm kd { prune weights 20%; rewind lr; distill from big }\n"
    (tmp_path / "a.plan").write_text(HEAD + arms + "arm other { prune weights 50%; rewind lr }\n")
    assert main(["plan", str(tmp_path / "a.plan"), "--expand", "--only", "kd"]) == 0
    text = capsys.readouterr().out
    assert "arm big {" in text and "arm kd {" in text and "other" not in text
    assert "compare kd, dense" in text


def test_the_default_report_is_what_the_table_shows() -> None:
    from tickdsl.results.table_columns import OPTIONAL_PARTS, round_columns

    shown = frozenset(OPTIONAL_PARTS)
    assert [head for head, _ in round_columns(shown, None, ())] == [
        head for head, _ in round_columns(shown, None, DEFAULT_METRICS)
    ]


@pytest.mark.parametrize("metric", ["loss", '"top-5"', "$chosen"])
def test_what_is_compared_changes_no_step(metric: str) -> None:
    """Every test measures all metrics of its task: another one compares the same trainings."""
    text = "let chosen = loss\nseeds 3\nprune weights 20% x 2; rewind lr\ncompare all, random-init within=1%"
    plain = read(text.replace("let chosen = loss\n", "")).plan
    chosen = read(f"{text} metric={metric}").plan
    assert plain is not None and chosen is not None
    assert (plain.metric, chosen.metric) == ("", metric.strip('"').replace("$chosen", "loss"))
    same_steps(plain, chosen)
    again = read(expand(chosen)).plan
    assert again is not None and again.metric == chosen.metric


@pytest.mark.parametrize(
    "clause",
    [
        "weights 20% from init to 2ep every 3it",
        "weights 20% until mask-distance < 0.1",
        "filters 20% via zeroing every=1ep",
    ],
)
def test_cycles_of_prunes_within_a_training_stay_cycles(clause: str) -> None:
    text = f"train 10ep\ncycle 2 {{ prune {clause}; rewind lr }}\n"
    plan = resolve(load_source(Source("x.plan", text))).plan
    assert plan is not None and "cycle 2 {" in expand(plan)
