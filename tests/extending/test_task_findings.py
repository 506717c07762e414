"""`check` says which part of a plan the task of the data does not have, where, and what to write instead."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import regression_data
import token_data

from tickdsl.lang.findings.diagnostics import Diagnostic

HUBER = """
from tickdsl.extending import Regress, TaskMetric

class Huber(Regress):
    metrics = (TaskMetric("hits", higher_is_better=True, unit="share"), *Regress.metrics)

    def figures(self, sums, count):
        return {"hits": 0.5, **super().figures(sums, count)}
"""


def findings(sandbox: Any, head: str, text: str, *, change: str = "pass", network: bool = True) -> list[Diagnostic]:
    """The findings with a code of tasks. `{spots}` is a data set of numbers, `{words}` one of tokens."""
    spots = f'"{sandbox.module(regression_data.PLUGIN.format(change=change))}:spots"'
    words = f'"{sandbox.module(token_data.PLUGIN.format(change="pass"))}:words"'
    plan = f"{head.format(spots=spots, words=words)}\n{text.format(spots=spots, words=words)}\n"
    found = sandbox.check(plan, network=network).diagnostics
    errors = [each for each in found if each.severity == "error" and not each.code.startswith("TD47")]
    assert not errors, errors
    return [each for each in found if each.code.startswith("TD47")]


SPOTS = "model small-cnn width=0.5\ndata {spots}\ntrain 2ep lr=0.01\nseeds 3"
DIGITS = "model small-cnn on digits width=0.5\ntrain 2ep lr=0.01\nseeds 3"


@pytest.mark.parametrize(
    ("head", "text", "code", "where", "message", "help"),
    [
        (
            SPOTS,
            "prune filters 30% x 4; rewind lr\nstop when accuracy < 50%",
            "TD473",
            "accuracy < 50%",
            "has no accuracy: its task is regress, judged by rmse",
            "use rmse, r2, loss or drop, or a size",
        ),
        (SPOTS, "prune filters 30% until accuracy < 50%; rewind lr", "TD473", "accuracy < 50%", "has no accuracy", ""),
        (
            DIGITS,
            "prune filters 30% x 4; rewind lr\nstop when rmse > 0.2",
            "TD473",
            "rmse > 0.2",
            "digits has no rmse: its task is classify",
            "use accuracy, loss or drop",
        ),
        (
            SPOTS,
            "prune filters 30% x 4; rewind lr\nstop when rmsse > 1",
            "TD473",
            "rmsse > 1",
            "has no rmsse",
            "use rmse",
        ),
        (
            "model small-cnn\ndata {spots}\ntrain 2ep lr=0.01 label-smoothing=0.1\nseeds 3",
            "prune filters 30%; rewind lr",
            "TD474",
            "0.1",
            "label-smoothing=0.1: the loss of the task regress has none",
            "remove `label-smoothing=`",
        ),
        (
            SPOTS,
            "prune filters 30%; retrain fine-tune 2ep lr=0.001 label-smoothing=0.2",
            "TD474",
            "retrain",
            "label-smoothing=0.2",
            "",
        ),
        (
            SPOTS,
            "split classes 2\nprune filters 30%; overlap; rewind weights to init",
            "TD475",
            "split classes 2",
            "has no classes, its task is regress",
            "use `split samples`",
        ),
        (
            SPOTS,
            "prune filters 30%; rewind lr\nreport robustness",
            "TD476",
            "report robustness",
            "its task is regress",
            "remove",
        ),
        (
            SPOTS,
            "prune weights 30% by grasp-halves at init; rewind lr",
            "TD477",
            "grasp-halves",
            "halves the classes",
            "use `by grasp`",
        ),
        (
            DIGITS,
            "prune filters 30%; rewind lr; transfer to {spots} head=keep",
            "TD478",
            "transfer to",
            "the outputs of digits are those of the task classify",
            "use `head=reset`",
        ),
        (
            SPOTS,
            "prune filters 30%; rewind lr; distill from dense temperature=2",
            "TD479",
            "temperature=2",
            "has no effect",
            "remove it",
        ),
        (
            "model small-cnn\ndata {words}\nseeds 3",
            "prune filters 30%; rewind lr",
            "TD472",
            "small-cnn",
            "small-cnn takes images, but the inputs of .* are tokens",
            "for small-cnn|model for this data",
        ),
        (DIGITS, "prune filters 30%; rewind lr; transfer to {words}", "TD472", "own_", "takes images", ""),
    ],
)
def test_a_finding_says_where_and_what_to_write(
    sandbox: Any, head: str, text: str, code: str, where: str, message: str, help: str
) -> None:
    (found,) = findings(sandbox, head, text)
    assert found.code == code
    assert where in found.span.text
    assert re.search(message, found.message), found.message
    assert re.search(help, found.help or ""), found.help


def test_tokens_are_not_augmented_and_have_no_robustness(sandbox: Any) -> None:
    network = sandbox.module(token_data.NETWORK)
    head = f'model "{network}:reader"\ndata {{words}}\ntrain 2ep lr=0.01 augment=flip\nseeds 3'
    found = findings(sandbox, head, "prune weights 30%; rewind lr")
    assert [(each.code, each.span.text) for each in found] == [("TD474", "flip")]
    head = head.replace(" augment=flip", "")
    (found_report,) = findings(sandbox, head, "prune weights 30%; rewind lr\nreport robustness")
    assert found_report.code == "TD476" and "its inputs are tokens" in found_report.message
    assert findings(sandbox, head, "prune weights 30%; rewind lr\nstop when accuracy < 50%") == []


def test_what_the_catalogue_names_is_found_without_a_network(sandbox: Any) -> None:
    text = "prune filters 30% x 4; rewind lr\nstop when rmse > 0.2"
    assert [each.code for each in findings(sandbox, DIGITS, text, network=False)] == ["TD473"]
    assert findings(sandbox, SPOTS, "prune filters 30%; rewind lr\nreport robustness", network=False) == []


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("hits < 50%", None),
        ("hits < 0.5", None),
        ("hits < 3", "is a share"),
        ("rmse > 2", None),
        ("hitts < 50%", "has no hitts"),
        ("loss < 3", None),
    ],
)
def test_a_task_of_a_plug_in_brings_its_metrics(sandbox: Any, condition: str, problem: str | None) -> None:
    """Their units are known once its code was read; its networks are those of the task that it extends."""
    task = f"{sandbox.module(HUBER)}:Huber"
    found = findings(
        sandbox,
        SPOTS,
        f"prune filters 30% x 4; rewind lr\nstop when {condition}",
        change=f'raw = attrs.evolve(raw, task="{task}")',
    )
    assert [each.code for each in found] == ([] if problem is None else ["TD473"])
    assert problem is None or problem in found[0].message


def test_a_plug_in_metric_that_is_no_share_has_no_percentage(sandbox: Any) -> None:
    task = sandbox.module(HUBER.replace(', unit="share"', "")) + ":Huber"
    (found,) = findings(
        sandbox, SPOTS, "prune filters 30% x 4; rewind lr\nstop when hits < 50%",
        change=f'raw = attrs.evolve(raw, task="{task}")',
    )  # fmt: skip
    assert "hits is no share" in found.message and found.help == "use a number"


def test_arrays_of_tokens_need_their_vocabulary(sandbox: Any) -> None:
    path = sandbox.folder / "tokens.npz"
    np.savez(path, x=np.arange(240).reshape(40, 6) % 20, y=np.arange(40) % 2)
    head = f'model bert layers=1 dim=16 heads=2\ndata arrays path="{path}" test=20%'
    plan = "{}\ntrain 2ep lr=0.01\nseeds 3\nprune weights 30%; rewind lr\n"
    (found,) = (d for d in sandbox.check(plan.format(head)).diagnostics if d.severity == "error")
    assert found.code == "TD472" and "set `vocabulary=`" in (found.help or "")
    assert not [d for d in sandbox.check(plan.format(f"{head} vocabulary=20")).diagnostics if d.severity == "error"]
