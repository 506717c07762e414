"""Every statement at every place where it does not belong is reported, and never a crash."""

from __future__ import annotations

import pytest

from tickdsl.checks import CheckReport, check
from tickdsl.lang import vocabulary
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

#: A statement of every kind that parses by itself.
STATEMENTS = {
    "plan": "plan 1", "let": "let n = 2", "include": 'include "other.plan"', "seeds": "seeds 3",
    "sweep": "sweep s in [local, global]", "model": "model small-cnn", "data": "data digits",
    "split": "split classes 2", "train": "train 3ep", "prune": "prune weights 20%", "overlap": "overlap",
    "union": "union of a, b", "refill": "refill filters", "regroup": "regroup groups=4",
    "recalibrate": "recalibrate", "grow": "grow weights all",
    "perturb": "perturb 5%", "evolve": "evolve weights 30%",
    "rewind": "rewind lr", "retrain": "retrain linear", "distill": "distill from dense",
    "stretch": "stretch to vgg19", "squeeze": "squeeze to vgg11", "transfer": "transfer to digits",
    "cycle": "cycle 2 { prune weights 20%; rewind lr }",
    "arm": "arm inner { prune weights 20% }", "compare": "compare dense", "report": "report accuracy",
    "stop": "stop when accuracy < 50%",
}  # fmt: skip
#: What a cycle is made of.
IN_CYCLES = {
    "prune", "overlap", "union", "refill", "regroup", "recalibrate", "grow", "rewind", "perturb", "retrain", "distill",
    "evolve", "stretch", "squeeze", "transfer", "cycle",
}  # fmt: skip
PLACES = {
    "cycle": "cycle 2 {{ prune weights 20%; {}; rewind lr }}\n",
    "cycle in an arm": "arm a {{ cycle 2 {{ prune weights 20%; {} }} }}\ncompare a\n",
    "nested cycle": "cycle 2 {{ cycle 2 {{ prune weights 20%; {} }} }}\n",
    "arm": "arm a {{ prune weights 20%; {}; rewind lr }}\ncompare a\n",
    "transfer": "prune weights 20%; rewind lr\ntransfer to digits {{ {} }}\n",
    "plan": "prune weights 20%\n{}\nrewind lr\n",
}


def checked(text: str) -> CheckReport:
    return check(load_source(Source("x.plan", text)), network=False)


def test_there_is_a_statement_of_every_kind() -> None:
    assert set(STATEMENTS) == set(vocabulary.STATEMENTS)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_no_statement_crashes_anywhere(statement: str, place: str) -> None:
    checked(PLACES[place].format(STATEMENTS[statement]))


@pytest.mark.parametrize("place", ["cycle", "cycle in an arm", "nested cycle"])
@pytest.mark.parametrize("statement", sorted(set(STATEMENTS) - IN_CYCLES))
def test_what_does_not_belong_into_a_cycle_is_said_with_the_way_out(statement: str, place: str) -> None:
    report = checked(PLACES[place].format(STATEMENTS[statement]))
    (found,) = [d for d in report.diagnostics if d.severity == "error"]
    assert (found.code, found.span.text.split()[0]) == ("TD007", statement)
    assert found.help is not None and ("retrain" in found.help) == (statement == "train")


@pytest.mark.parametrize("length", ["0ep", "0it", "0 epochs", "0.0ep"])
def test_a_training_without_a_length_is_reported_where_it_is_written(length: str) -> None:
    report = checked(f"model small-cnn on digits\ntrain {length} batch=32\nprune weights 20%; rewind lr\n")
    (found,) = [d for d in report.diagnostics if d.severity == "error"]
    assert found.code == "TD105" and found.span.text == length
