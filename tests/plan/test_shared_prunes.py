"""What comes before the arms is made once, by the plan's recipe; an arm's own recipe counts from there on."""

from __future__ import annotations

from typing import Any

import pytest

from tickdsl.checks import check
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Study

HEAD = "train 10ep lr=0.1 batch=64\n"
OWN = "train 6ep opt=adam lr=0.002"


def resolved(text: str) -> Plan:
    plan = resolve(load_source(Source("test.plan", HEAD + text))).plan
    assert plan is not None
    return plan


def lowered(plan: Plan) -> Study:
    return lower(plan, fingerprint=lambda data: "f", rounds=lambda arm, prune: 1)


def steps_of(study: Study, arm: str, operation: str) -> list[Step]:
    nodes = study.graph.nodes(data=True)
    return [n["step"] for _, n in nodes if n["step"].operation == operation and (arm, 1) in n["uses"]]


def ticket(study: Study, arm: str) -> Step:
    (level,) = [level for level in study.levels if level.arm == arm][-1:]
    return study.step(level.ticket)


def optimizers(steps: list[Step]) -> list[Any]:
    return [step.args["recipe"].get("optimizer", "sgd") for step in steps]


@pytest.mark.parametrize("shared", ["prune weights 50%", "prune filters 30%; rewind lr; prune weights 40%"])
@pytest.mark.parametrize("tail", ["rewind lr", "rewind weights to 2ep", "retrain linear 3ep"])
def test_arms_share_the_prunes_before_them(shared: str, tail: str) -> None:
    study = lowered(resolved(f"{shared}\narm plain {{ {tail} }}\narm own {{ {OWN}; {tail} }}"))
    plain, own = (steps_of(study, name, "prune") for name in ("plain", "own"))
    assert [step.key for step in plain] == [step.key for step in own]
    assert ticket(study, "plain").parents["structure"] == ticket(study, "own").parents["structure"]
    assert optimizers([ticket(study, "plain"), ticket(study, "own")]) == ["sgd", "adam"]
    trained = study.step(plain[0].parents["weights"])
    assert trained.args["recipe"]["length"] == "10ep"


def test_rewound_weights_are_those_of_the_network_that_was_pruned() -> None:
    study = lowered(resolved(f"prune weights 50%\narm own {{ {OWN}; rewind weights to 20% }}"))
    last = ticket(study, "own")
    point = study.step(last.parents["weights"])
    # 20% of the plan's 10 epochs: two epochs are behind, and the arm's own recipe goes on there.
    assert (point.args["stop"], point.args["recipe"]["length"], last.args["start"]) == ("2ep", "10ep", "2ep")
    assert last.args["recipe"]["length"] == "6ep"


def test_later_rounds_of_an_arm_use_its_own_recipe() -> None:
    study = lowered(resolved(f"prune weights 50% x 2\narm own {{ {OWN}; rewind lr; prune filters 20%; rewind lr }}"))
    trainings = [step for step in steps_of(study, "own", "train") if "structure" in step.parents]
    assert set(optimizers(trainings)) == {"adam"} and len(trainings) == 3


@pytest.mark.parametrize(("moment", "start"), [("init", None), ("3ep", "3ep"), ("10%", "1ep")])
@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupted_training_goes_on_by_the_own_recipe(moment: str, start: str | None, times: int) -> None:
    study = lowered(resolved(f"prune weights 50% x {times} by snip at {moment}\narm own {{ {OWN} }}\narm plain {{ }}"))
    last = ticket(study, "own")
    assert (last.args.get("start"), last.args["recipe"]["optimizer"]) == (start, "adam")
    assert ticket(study, "plain").args["recipe"].get("optimizer", "sgd") == "sgd"
    assert len(steps_of(study, "own", "prune")) == times
    assert last.parents["structure"] == ticket(study, "plain").parents["structure"]


def test_the_baseline_and_the_controls_train_as_the_tickets_do() -> None:
    text = f"prune weights 50%\narm own {{ {OWN}; rewind weights }}\ncompare own, random-init, dense"
    study = lowered(resolved(text))
    measured = [study.step(measurement.step) for measurement in study.measurements]
    assert [step.operation for step in measured] == ["train"] * 3
    assert optimizers(measured) == ["adam"] * 3


def test_an_own_recipe_that_is_the_plans_changes_nothing() -> None:
    with_own = lowered(resolved("prune weights 50%\narm own { train 10ep lr=0.1 batch=64; rewind lr }"))
    without = lowered(resolved("prune weights 50%\narm own { rewind lr }"))
    assert set(with_own.graph) == set(without.graph)


def test_a_swept_recipe_before_the_arms_multiplies_arms_with_their_own() -> None:
    text = f"sweep rate in [0.05, 0.2]\ntrain 10ep lr=$rate\nprune weights 50%\narm own {{ {OWN}; rewind lr }}"
    plan = resolve(load_source(Source("test.plan", text))).plan
    assert plan is not None and [arm.sweep for arm in plan.arms] == [{"rate": "0.05"}, {"rate": "0.2"}]


@pytest.mark.parametrize(
    "text",
    [
        f"prune weights 50%\narm plain {{ rewind lr }}\narm own {{ {OWN}; rewind lr }}",
        f"prune weights 50% x 2; rewind lr; prune filters 20%\narm own {{ {OWN}; rewind weights to 1ep }}\n"
        "arm other { rewind lr; prune weights 10%; rewind lr }",
        f"prune weights 50% by snip at init\narm own {{ {OWN} }}\narm plain {{ distill from dense }}",
    ],
)
def test_expanded_plans_share_as_the_original(text: str) -> None:
    plan = resolved(text)
    again = resolve(load_source(Source("test.plan", expand(plan)))).plan
    assert again is not None
    assert set(lowered(again).graph) == set(lowered(plan).graph)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"prune weights 50% x 2; rewind lr\narm own {{ {OWN} }}", {"TD315"}),
        (f"prune weights 50% x 2; rewind lr\narm own {{ {OWN}; prune filters 20%; rewind lr }}", set()),
        ("prune weights 50%\narm own { model conv2; rewind lr }", {"TD120"}),
        ("prune weights 50%\narm own { split samples 2; overlap; rewind weights }", {"TD120"}),
        (f"prune weights 50% at 8ep\narm own {{ {OWN} }}", {"TD302"}),  # nothing of the 6 epochs is left
        (f"prune weights 50% at 8ep\narm own {{ {OWN}; rewind lr }}", set()),
        ("prune weights 50%\narm own { train 20ep; rewind weights to 15ep }", {"TD302"}),  # the plan has 10 epochs
        (f"prune weights 50%\narm own {{ {OWN}; rewind weights to 7ep }}", {"TD302"}),
    ],
)
def test_what_check_says(text: str, expected: set[str]) -> None:
    report = check(load_source(Source("test.plan", f"seeds 3\n{HEAD}{text}")))
    assert {d.code for d in report.diagnostics if d.severity != "note"} == expected
