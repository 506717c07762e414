"""Resolving `retrain`, `distill` and `transfer`, and their errors."""

import pytest

from tickdsl.lang.meaning.resolve import ResolvedPlan, resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Arm, Retrain, Rewind
from tickdsl.training.recipes.recipe import Recipe

HEAD = "model small-cnn on digits\ntrain 160ep lr=0.1 batch=64 decay=1e-4 milestones=[80ep, 120ep]\n"


def resolved(text: str) -> ResolvedPlan:
    return resolve(load_source(Source("test.plan", HEAD + text)))


def arm(text: str) -> Arm:
    result = resolved(text)
    assert result.plan is not None, result.diagnostics
    return result.plan.arms[0]


def codes(text: str) -> list[str]:
    return [d.code for d in resolved(text).diagnostics]


def retrained(text: str) -> Retrain:
    result = arm(f"prune weights 20%; {text}").rounds[0].tail[-1]
    assert isinstance(result, Retrain)
    return result


def test_a_retraining_inherits_unset_options() -> None:
    recipe = Recipe.from_dict(retrained("retrain one-cycle 72ep max-lr=0.05").recipe)
    assert (recipe.batch, recipe.decay, str(recipe.length)) == (64, 1e-4, "72ep")
    assert (recipe.schedule, recipe.peak_lr, recipe.pct_start, recipe.div) == ("one-cycle", 0.05, 0.1, 100)
    assert str(Recipe.from_dict(retrained("retrain fine-tune").recipe).length) == "160ep"


def test_default_options_may_be_left_out() -> None:
    short = retrained("retrain one-cycle 72ep")
    assert short == retrained("retrain one-cycle 72ep max-lr=0.1 pct-start=10% div=100 final-div=100")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("retrain fine-tune 4ep max-lr=0.1", "TD104"),
        ("retrain cyclic 4ep milestones=[2ep]", "TD104"),
        ("retrain sideways 4ep", "TD116"),
        ("retrain fine-tune 4ep lr=0.1", "TD308"),
        ("retrain scaled 1ep", "TD305"),
        ("rewind lr; retrain cyclic 4ep", "TD304"),
        ("retrain cyclic 4ep; retrain linear 4ep", "TD304"),
        ("retrain cyclic 4ep; rewind weights", "TD304"),
        ("rewind weights; retrain scratch", "TD304"),
    ],
)
def test_retraining_mistakes(text: str, code: str) -> None:
    assert code in codes(f"prune weights 20%; {text}")


def test_a_retraining_too_short_for_the_milestones_says_so() -> None:
    found = resolved("prune weights 20%; retrain scaled 1ep").diagnostics
    (message,) = [d.message for d in found if d.code == "TD305"]
    assert message.endswith("milestones fall on [0ep, 0ep] in 1ep, which must increase; retrain for longer")


def test_a_rewind_after_a_retraining_starts_it_later() -> None:
    tail = arm("prune weights 20%; retrain cyclic 8ep; rewind lr to 2ep").rounds[0].tail
    assert [type(each) for each in tail] == [Retrain, Rewind]


def test_a_retraining_before_any_prune_is_misplaced() -> None:
    assert "TD301" in codes("retrain cyclic 4ep; prune weights 20%; rewind lr")
