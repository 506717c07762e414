"""Resolving plans: defaults, lets, sweeps, arms and includes."""

from fractions import Fraction
from pathlib import Path

import pytest

from tickdsl.lang.meaning.resolve import ResolvedPlan, resolve
from tickdsl.lang.reading.include import load_plan, load_source
from tickdsl.lang.syntax import Source
from tickdsl.moments import Moment
from tickdsl.plan.model import Overlap, Plan, Rewind, Share, To

CARD = "prune filters global 20% x 8; rewind lr; compare random-init"


def meaning(text: str, **overrides: str) -> ResolvedPlan:
    return resolve(load_source(Source("test.plan", text), overrides))


def plan(text: str, **overrides: str) -> Plan:
    result = meaning(text, **overrides)
    assert result.plan is not None, result.errors
    return result.plan


def codes(text: str, **overrides: str) -> list[str]:
    return [d.code for d in meaning(text, **overrides).diagnostics]


def test_the_card_is_a_complete_plan() -> None:
    result = plan(CARD)
    (arm,) = result.arms
    assert (arm.model.name, arm.data.name, result.seeds, result.rivals) == (
        "small-cnn",
        "digits",
        (1,),
        ("random-init",),
    )
    (group,) = arm.rounds
    assert (group.prune.amount, group.prune.times) == (Share(Fraction(1, 5)), 8)
    assert group.tail == (Rewind("lr", Moment(0, "it")),)


def test_defaults_are_noted() -> None:
    assert {"TD901", "TD902"} <= set(codes(CARD))


def test_sweeps_expand_the_arms_that_use_them() -> None:
    result = plan(
        "sweep scope in [local, global]\nsweep amount in [10%, 20%, 30%]\n"
        "arm a { prune weights $scope $amount; rewind lr }\narm b { prune weights $scope 20%; rewind lr }\ncompare all"
    )
    ids = [arm.id for arm in result.arms]
    assert len([i for i in ids if i.startswith("a[")]) == 6
    assert [i for i in ids if i.startswith("b[")] == ["b[scope=local]", "b[scope=global]"]


def test_a_sweep_reaches_arms_through_settings_and_lets() -> None:
    result = plan(
        "let rate = 0.1\nsweep rate2 in [0.1, 0.2]\ntrain 2ep lr=$rate2 decay=$rate\n"
        "arm a { prune weights 20%; rewind lr }"
    )
    assert [arm.recipe.get("lr", 0.1) for arm in result.arms] == [0.1, 0.2]
    assert {arm.recipe["decay"] for arm in result.arms} == {0.1}


def test_arms_share_the_statements_before_them() -> None:
    result = plan("prune filters 30%\narm a { rewind lr }\narm b { rewind weights to 2ep }\ncompare all")
    assert [arm.rounds[0].prune.unit for arm in result.arms] == ["filters", "filters"]
    assert [arm.rounds[0].tail[0].what for arm in result.arms] == ["lr", "weights"]


def test_inner_settings_override() -> None:
    result = plan(
        "train 5ep lr=0.3\narm a { train 7ep; prune weights 20%; rewind lr }\narm b { prune weights 20%; rewind lr }"
    )
    assert [arm.recipe["length"] for arm in result.arms] == ["7ep", "5ep"]


def test_a_cycle_repeats_its_body() -> None:
    written = plan("cycle 4 { prune weights 20%; rewind lr }").arms[0].rounds
    assert written == plan("prune weights 20% x 4; rewind lr").arms[0].rounds
    two = plan("cycle 3 { prune weights 20%; rewind lr; prune filters 10%; rewind lr }").arms[0].rounds
    assert [group.prune.unit for group in two] == ["weights", "filters"] * 3


def test_set_replaces_lets_and_narrows_sweeps() -> None:
    text = "let n = 8\nsweep s in [local, global]\nprune weights $s 20% x $n; rewind lr"
    result = plan(text, n="2", s="global")
    assert [(arm.rounds[0].prune.times, arm.rounds[0].prune.scope) for arm in result.arms] == [(2, "global")]
    assert "TD115" in codes(text, m="2")
    assert "TD105" in codes(text, n="2 2")


def test_overlap_requires_all_parts_by_default() -> None:
    tail = "prune weights 20%; overlap{}; rewind weights"
    assert plan("split classes 3; " + tail.format("")).arms[0].rounds[0].tail[0] == Overlap(3)
    assert plan("split classes 3; " + tail.format(" 2 of 3")).arms[0].rounds[0].tail[0] == Overlap(2)


def test_targets() -> None:
    assert plan("prune weights to 95% x 10; rewind lr").arms[0].rounds[0].prune.amount == To(Fraction(19, 20))
    group = plan("prune weights 15% until 98%; rewind lr").arms[0].rounds[0]
    assert (group.prune.until, group.prune.times) == (Fraction(49, 50), None)


def test_includes_are_relative_to_the_file_that_includes_them(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "settings.plan").write_text('include "deeper.plan"\ntrain 3ep\n')
    (tmp_path / "common" / "deeper.plan").write_text("seeds 4\n")
    (tmp_path / "main.plan").write_text('include "common/settings.plan"\nprune weights 20%; rewind lr\n')
    result = resolve(load_plan(tmp_path / "main.plan")).plan
    assert result is not None
    assert (result.seeds, result.arms[0].recipe["length"]) == ((1, 2, 3, 4), "3ep")


def test_errors_in_an_included_file_are_reported_there(tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_text("trian 3ep\n")
    (tmp_path / "b.plan").write_text('include "a.plan"\nprune weights 20%; rewind lr\n')
    (error,) = resolve(load_plan(tmp_path / "b.plan")).errors
    assert (error.code, Path(error.span.source.path).name, error.span.line) == ("TD010", "a.plan", 1)


def test_an_include_cycle_names_the_chain(tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_text('include "b.plan"\nprune weights 20%; rewind lr\n')
    (tmp_path / "b.plan").write_text('include "a.plan"\n')
    (error,) = [d for d in resolve(load_plan(tmp_path / "a.plan")).diagnostics if d.code == "TD112"]
    assert "through" in error.message


@pytest.mark.parametrize(
    "statement",
    [
        "prune filters local to [50%, 20%]; rewind lr",
    ],
)
def test_unsupported_statements_are_errors(statement: str) -> None:
    assert "TD006" in codes(statement)


def test_a_syntax_error_causes_no_other_errors() -> None:
    result = codes("sweep s in [local, global]\narm a { pruen weights $s 20% }\ncompare a\nlet x 3")
    assert [code for code in result if not code.startswith("TD9")] == ["TD010", "TD001"]


def test_lets_refer_to_sweeps_and_each_other_in_any_order() -> None:
    result = plan("let x = $y\nlet y = $s\nsweep s in [local, global]\nprune filters $x 20%; rewind lr")
    assert [arm.rounds[0].prune.scope for arm in result.arms] == ["local", "global"]
    assert "TD106" in codes("let x = $y\nlet y = $x\nprune filters $x 20%; rewind lr")


def test_a_sweep_in_shared_data_reaches_arms_with_their_own_network() -> None:
    result = plan(
        "sweep d in [digits, synthetic]\nmodel small-cnn on $d\n"
        "arm a { model lenet-300-100; prune weights 20%; rewind lr }\narm b { prune weights 20%; rewind lr }"
    )
    assert [arm.data.name for arm in result.arms] == ["digits", "synthetic"] * 2


@pytest.mark.parametrize("question", ["stop when accuracy < $b", "compare dense within=$b", "seeds [$b, 2]"])
def test_questions_take_no_sweeps(question: str) -> None:
    assert "TD106" in codes(f"sweep b in [50%, 90%]\nprune weights $b; rewind lr\n{question}")


def test_layers_may_be_named_by_variables() -> None:
    result = plan("sweep l in [conv1, conv2]\nprune filters 20% except $l; rewind lr")
    assert [arm.rounds[0].prune.protect for arm in result.arms] == [("conv1",), ("conv2",)]


def test_statements_after_a_cycle_belong_to_no_round() -> None:
    assert "TD007" in codes("cycle 3 { prune filters 20% }\nrewind lr")
    assert "TD002" in codes("cycle 3 { }")


@pytest.mark.parametrize(
    "statement",
    [
        "prune filters $n x 2; rewind lr",
        "prune weights $n x 2; rewind lr",
        "prune weights 20% x $n; rewind lr",
        "prune weights 20% until $n; rewind lr",
        "prune weights 20% x 2 at $n; rewind lr",
        "prune weights 20% x 2; rewind lr\nseeds $n",
        "prune weights 20% x 2; rewind weights to $n",
        "prune weights 20% x 2; rewind lr\nstop when accuracy < $n",
        "prune weights 20% x 2; rewind lr\ncompare dense within=$n",
        "train $n\nprune weights 20% x 2; rewind lr",
        "train 2ep lr=$n\nprune weights 20% x 2; rewind lr",
        "cycle $n { prune weights 20%; rewind lr }",
        "prune weights 20% x 2; grow weights $n; rewind lr",
    ],
)
@pytest.mark.parametrize("number", ["-5", "-0.5"])
def test_a_negative_number_is_a_finding_without_advice_to_write_it_otherwise(statement: str, number: str) -> None:
    (finding,) = meaning(f"let n = {number}\n{statement}").errors
    assert "`-" not in f"{finding.label}{finding.help}"


@pytest.mark.parametrize("written", ["-120", "-120.0", "-1.2e2", "$floor"])
def test_a_bound_may_be_negative(written: str) -> None:
    card = "let floor = -120\nmodel conv-vae on digits\nprune weights 20% x 4 until elbo < -1; rewind lr\n"
    result = plan(f"{card}stop when elbo < {written}")
    (stop,) = result.stops
    ends = result.arms[0].rounds[0].prune.ends
    assert (stop.metric, stop.bound, stop.percentage) == ("elbo", -120, False)
    assert ends is not None and ends.bound == -1


@pytest.mark.parametrize(
    "text",
    [
        "prune weights 20%; rewind lr; compare dense within=1e999",
        "stop when accuracy < 1e999; prune weights 20%; rewind lr",
        "model small-cnn on digits width=1e999; prune weights 20%; rewind lr",
        "seeds " + "1" * 5000 + "; prune weights 20%; rewind lr",
        'include "a\0b"\nprune weights 20%; rewind lr',
    ],
)
def test_absurd_values_are_findings(text: str) -> None:
    assert meaning(text).errors


@pytest.mark.parametrize(
    ("prune", "code"),
    [
        ("prune weights 20% by hrank; rewind lr", "TD312"),
        ("prune filters 20% by cka; rewind lr", "TD312"),
        ("prune layers 1 by synflow at init", "TD312"),
        ("prune neurons 20% by hrank; rewind lr", "TD312"),
        ("prune weights 20% by taylor at init", "TD311"),
        ("prune filters 20% by taylor at init", "TD311"),
    ],
)
def test_a_criterion_that_cannot_rank_here_is_an_error(prune: str, code: str) -> None:
    assert code in codes(prune)


@pytest.mark.parametrize("by", ["snip", "grasp", "synflow", "hrank", "expected-abs", "fpgm"])
def test_criteria_without_training_rank_at_init(by: str) -> None:
    assert not plan(f"prune filters 20% by {by} at init").arms[0].rounds[0].tail


@pytest.mark.parametrize(
    ("written", "way_out"),
    [("1", "`1%` for 1 point"), ("0.5", "`0.5%` for 0.5 points, or `50%`"), ("2.5", "`2.5%`"), ("$n", "`3%`")],
)
def test_points_are_written_as_a_percentage(written: str, way_out: str) -> None:
    result = meaning(f"let n = 3\nlet m = $n\nprune weights 20% x $m; rewind lr; compare dense within={written}")
    (error,) = [d for d in result.diagnostics if d.code == "TD105"]
    assert error.message.startswith("`within=` must be a percentage") and way_out in str(error.help)
    assert "1 points" not in str(error.help)


@pytest.mark.parametrize("written", ["0", "1%", "0.5%"])
def test_points_that_are_percentages_are_read(written: str) -> None:
    plan = meaning(f"prune weights 20%; rewind lr; compare dense within={written}").plan
    assert plan is not None and float(plan.within) * 100 == float(written.removesuffix("%"))


@pytest.mark.parametrize("statement", ["stop when accuracy < 1", "stop when sparsity >= 1"])
def test_a_bound_of_one_is_asked_about(statement: str) -> None:
    result = meaning(f"prune weights 20% x 3; rewind lr\n{statement}")
    (error,) = [d for d in result.diagnostics if d.severity == "error"]
    assert (error.code, error.span.text) == ("TD105", "1") and "`1%` or `100%`" in str(error.help)


def test_until_one_is_asked_about_too() -> None:
    result = meaning("prune weights 20% until accuracy < 1; rewind lr")
    assert [d.code for d in result.diagnostics if d.severity == "error"] == ["TD105"]


def test_a_report_lists_further_metrics_of_tasks() -> None:
    text = "model conv-vae on digits\nprune weights 20% x 4; rewind lr\nreport elbo, kl, params"
    assert plan(text).metrics == ("elbo", "kl", "params")
    assert "TD525" in codes(text.replace("params", "kl"))
    assert "TD114" in codes(text.replace("params", "kll"))
