"""Statements of sparse training and of tickets of elsewhere are like all others, in everything that plans do."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tickdsl.checks import check
from tickdsl.lang import option_schemas, vocabulary
from tickdsl.lang.expansion import expand
from tickdsl.lang.findings import explain
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.format import format_source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.study import Study

INVALID = Path(__file__).parents[1] / "invalid"
HEAD = "model small-cnn on digits\ntrain 10ep lr=0.1 batch=64\nseeds 3\n"


@attrs.frozen
class Case:
    """A statement in a pipeline. options: of the statement, that the example has. codes: of findings about it."""

    pipeline: str
    statement: str
    options: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    #: Whether its levels have controls.
    controls: bool = True


CASES = {
    "gradual": Case("prune weights to 90% from 1ep to 7ep every 20it curve=cubic", "prune", ("curve",),
                    ("TD450", "TD451", "TD454")),
    "set": Case("prune weights erk 80% by random at init; evolve weights 30% grow=random every=40it", "evolve",
                ("grow", "every"), ("TD452",)),
    "rigl": Case("prune weights erk 80% by random at init; evolve weights 30% grow=gradient until=75%", "evolve",
                 ("grow", "until"), ("TD452", "TD455")),
    "snfs": Case("prune weights erk 80% by random at init; evolve weights 30% grow=momentum", "evolve", ("grow",),
                 ("TD453",)),
    "srigl": Case("prune weights balanced 80% by random at init; evolve weights 30% fan-in=constant", "evolve",
                  ("fan-in",), ("TD452",)),
    "dense-sparse-dense": Case("prune weights 50%; rewind lr; grow weights all; retrain fine-tune 4ep", "grow", (),
                               ("TD457",)),
    "movement": Case("prune weights to 85% from 10% to 70% every 20it by movement", "prune", (), ("TD454",)),
    "delta": Case("prune weights 50% x 2 by delta; rewind lr", "prune", (), ()),
    "slimming": Case("prune filters 40% by bn-scale; retrain recipe bn-l1=1e-4", "retrain", (), ("TD456",)),
    "soft": Case("prune filters local 30% by l2 via zeroing every=1ep; rewind lr", "prune", ("every",), ("TD451",)),
    "penalty": Case("prune weights local 80% by random at init via penalty step=0.1 every=5it to=1 hold=40it", "prune",
                    ("step", "hold"), ("TD450", "TD451")),
    "signs": Case("prune weights 20% x 2; rewind weights to 2ep; rewind signs", "rewind", (), ("TD304", "TD542")),
    "another-seed": Case("prune weights 20% x 2; rewind mask of next seed align=dense; rewind weights  # ok TD549",
                         "rewind", ("align",), ("TD544", "TD545", "TD546", "TD549")),
    "by-activations": Case(
        "prune filters 20% x 2; rewind mask of next seed align=dense match=activations images=256; rewind weights"
        "  # ok TD549", "rewind", ("match", "images"), ("TD119", "TD544", "TD546")),
    "noise": Case("prune weights 20%; rewind weights; perturb 5%", "perturb", (), ("TD201", "TD304")),
    "cyclic": Case("prune weights erk 80% by random at init\ncycle 3 { rewind lr }", "cycle", (), ("TD541", "TD542")),
    "cyclic-dense": Case("cycle 3 { rewind lr }", "cycle", (), ("TD541",), controls=False),
    "cyclic-then": Case("cycle 2 { retrain cyclic 4ep }\nprune weights 50% x 2; rewind lr", "cycle", (), ("TD541",)),
}  # fmt: skip


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text)))
    assert resolved.plan is not None, resolved.diagnostics
    return resolved.plan


def study(text: str) -> Study:
    return lower(plan(text), fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: prune.times or 4)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_check_accepts_it(case: Case) -> None:
    found = check(load_source(Source("test.plan", HEAD + case.pipeline)))
    assert [d for d in found.diagnostics if d.severity == "error"] == []


def test_formatting_and_expansion_keep_its_steps(case: Case) -> None:
    text = HEAD + case.pipeline + "\ncompare dense, random-init levels=last"
    steps = set(study(text).graph)
    formatted = format_source(Source("test.plan", text))
    assert format_source(Source("test.plan", formatted)) == formatted and set(study(formatted).graph) == steps
    once = expand(plan(text))
    assert set(study(once).graph) == steps and expand(plan(once)) == once


def test_arms_share_its_steps_and_seeds_have_their_own(case: Case) -> None:
    one, both = f"arm a {{\n{case.pipeline}\n}}\n", f"arm a {{\n{case.pipeline}\n}}\narm b {{\n{case.pipeline}\n}}\n"
    alone, shared = study(HEAD + one), study(HEAD + both)
    assert set(alone.graph) == set(shared.graph)
    assert shared.naive_trainings == 2 * alone.naive_trainings
    tickets = {(level.seed, level.level): level.ticket for level in alone.levels}
    assert len({*tickets.values()}) == len(tickets) and {seed for seed, _ in tickets} == {1, 2, 3}


def test_a_longer_plan_continues_it(case: Case) -> None:
    text = HEAD + case.pipeline
    longer = study(text + "\ncycle 1 { rewind lr }\nprune weights 10%; rewind lr")
    assert set(study(text).graph) <= set(longer.graph)
    assert len(longer.levels) == len(study(text).levels) + 2 * 3


def test_its_levels_are_measured_with_their_controls(case: Case) -> None:
    found = study(HEAD + case.pipeline + "\ncompare random-init\nreport accuracy, distance, mask-overlap")
    levels = {(level.level, level.seed) for level in found.levels}
    measured = {
        name: {(m.level, m.seed) for m in found.measurements if m.contestant == name and not m.report_metric}
        for name in ("ticket", "random-init")
    }
    assert measured["ticket"] == levels
    pruned = {(level.level, level.seed) for level in found.levels if level.structure is not None}
    assert measured["random-init"] == pruned and bool(pruned) == case.controls
    reported = {(m.level, m.seed) for m in found.measurements if m.report_metric == "distance" and m.level}
    assert reported >= levels


def test_editors_know_it(case: Case) -> None:
    form = vocabulary.STATEMENTS[case.statement]
    assert form.form and form.summary
    known = option_schemas.STATEMENT_OPTIONS.get(case.statement, {})
    assert all(known[name].summary for name in case.options)


def test_its_findings_have_pages_and_plans_that_cause_them(case: Case) -> None:
    for code in case.codes:
        page = explain.load_page(code)
        assert page is not None and page.before is not None and page.after is not None
        assert [*INVALID.glob(f"{code}-*.plan")], code


@pytest.mark.parametrize(
    "ending",
    ["", "\nprune weights 10%; rewind lr\ntransfer to synthetic size=8 channels=1",
     "\nprune weights 10%; retrain recipe 2ep", "\ncycle 2 { rewind lr; evolve weights 10% }"],
)  # fmt: skip
def test_a_wrong_recipe_is_the_only_finding_about_it(case: Case, ending: str) -> None:
    text = HEAD.replace("10ep", "10ep patience=7it").replace("digits", "digits; data digits validation=20%")
    found = check(load_source(Source("test.plan", text.replace(" on digits;", ";") + case.pipeline + ending)))
    assert {"TD305"} <= {d.code for d in found.diagnostics} and "TD017" not in {d.code for d in found.diagnostics}


@pytest.mark.parametrize("name", ["gradual", "rigl", "noise", "cyclic-dense"])
def test_it_can_be_swept(name: str) -> None:
    pipeline = CASES[name].pipeline
    for value in ("30%", "3 {", "5%", "to 90%"):
        if value in pipeline:
            values = "[2, 3]" if value == "3 {" else "[40%, 80%]" if value == "to 90%" else "[10%, 20%]"
            swept = pipeline.replace(value, {"3 {": "$some {", "to 90%": "to $some"}.get(value, "$some"), 1)
            arms = plan(f"{HEAD}sweep some in {values}\n{swept}").arms
            assert len(arms) == 2 and len({str(arm.rounds) + str(arm.cycles) for arm in arms}) == 2
            return
    raise AssertionError(name)


def test_a_wrong_recipe_is_found_where_nothing_but_a_retraining_is_left() -> None:
    text = HEAD.replace("10ep", "10ep milestones=[7ep, 3ep]") + "cycle 2 { retrain linear }"
    found = check(load_source(Source("test.plan", text)))
    assert found.plan is None and {d.code for d in found.diagnostics if d.severity == "error"} == {"TD305"}
