"""Cycles without a prune: rounds of training alone, in steps, in text and in what `check` counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.checks import check
from tickdsl.checks.budgets import total_epochs
from tickdsl.engine.machine.precision import resolve_precision
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.study import Study

HEAD = "model small-cnn on digits\ntrain 10ep lr=0.1\n"


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text)))
    assert resolved.plan is not None, resolved.diagnostics
    return resolved.plan


def study(text: str) -> Study:
    return lower(plan(text), fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 5)


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("test.plan", text)), network=False).diagnostics}


def test_each_round_trains_the_network_of_the_round_before_once_more() -> None:
    result = study(HEAD + "prune weights erk 90% by random at init\ncycle 3 { rewind lr }")
    levels = [result.step(level.ticket) for level in result.levels]
    assert [level.level for level in result.levels] == [1, 2, 3, 4]
    assert len({level.structure for level in result.levels}) == 1
    for before, after in zip(result.levels, levels[1:], strict=False):
        assert after.parents["weights"] == before.ticket
        assert after.args["recipe"] == levels[0].args["recipe"] and "start" not in after.args


def test_retrainings_of_a_cycle_have_another_order_of_data_in_every_round() -> None:
    result = study(HEAD + "prune weights 50%; rewind lr\ncycle 3 { retrain linear 4ep }")
    rounds = [result.step(level.ticket).args.get("round") for level in result.levels]
    assert rounds == [None, 2, 3, 4]


def test_a_prune_after_a_cycle_prunes_what_the_cycle_has_trained() -> None:
    result = study(HEAD + "prune weights 50%; rewind lr\ncycle 2 { rewind lr }\nprune weights 20%; rewind lr")
    prune = result.step(result.levels[-1].structure)
    assert prune.operation == "prune" and prune.parents["weights"] == result.levels[2].ticket


def test_the_rounds_of_a_prune_come_before_its_cycle() -> None:
    result = study(HEAD + "prune weights 20% x 3; rewind lr\ncycle 2 { rewind lr to 50% }")
    structures = [level.structure for level in result.levels]
    assert len(set(structures[:3])) == 3 and len(set(structures[2:])) == 1
    assert [result.step(level.ticket).args.get("start") for level in result.levels] == [None, None, None, "5ep", "5ep"]


def test_a_cycle_within_a_cycle_belongs_to_each_of_its_rounds() -> None:
    result = study(HEAD + "cycle 2 { prune weights 20%; rewind lr; cycle 2 { rewind lr } }")
    assert [level.structure == result.levels[0].structure for level in result.levels] == [True] * 3 + [False] * 3


TAILS = st.sampled_from(
    ["rewind lr", "rewind lr to 50%", "retrain linear 4ep", "perturb 5%; rewind lr", "rewind signs to 2ep; perturb 1%",
     "grow weights 10% by random; rewind lr", "rewind lr; distill from dense", "rewind magnitudes; evolve weights 10%"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), TAILS), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_expanded_it_has_the_same_steps(cycles: list[tuple[int, str]], nested: bool, leading: bool) -> None:
    inner = "\n".join(f"cycle {times} {{ {tail} }}" for times, tail in cycles)
    body = f"prune weights 20%; rewind lr\n{inner}\n"
    text = HEAD + (f"cycle 2 {{\n{body}}}\n" if nested else f"{body}prune weights 10% x 2; rewind lr\n")
    if leading:
        text = f"{HEAD}{inner}\n{text.removeprefix(HEAD)}"
    once = expand(plan(text))
    assert set(study(text).graph) == set(study(once).graph)
    assert expand(plan(once)) == once


def test_the_epochs_of_a_cycle_count() -> None:
    (arm,) = plan(HEAD + "prune weights 20% x 2; rewind lr\ncycle 3 { rewind lr to 5ep }").arms
    assert total_epochs(arm) == 10 + 2 * 10 + 3 * 5
    (again,) = plan(HEAD + "prune weights 90% at init\ncycle 3 { rewind lr }").arms
    assert total_epochs(again) == 4 * 10


def test_arms_with_recipes_of_their_own_continue_a_cycle_before_them() -> None:
    text = (
        HEAD + "prune weights 50%; rewind lr\ncycle 2 { rewind lr }\n"
        "arm a { cycle 2 { rewind lr } }\narm b { train 4ep lr=0.01; cycle 1 { rewind lr } }\ncompare a, b\n"
    )
    result = study(text)
    lengths = {
        arm: [result.step(level.ticket).args["recipe"]["length"] for level in result.levels if level.arm == arm]
        for arm in ("a", "b")
    }
    assert lengths == {"a": ["10ep"] * 5, "b": ["10ep"] * 3 + ["4ep"]}
    assert set(study(expand(plan(text))).graph) == set(result.graph)


@pytest.mark.parametrize(
    ("cycle", "code"),
    [
        ("rewind weights", "TD541"), ("retrain scratch", "TD541"), ("perturb 5%", "TD541"), ("overlap", "TD541"),
        ("recalibrate; rewind lr", "TD541"), ("distill from dense", "TD007"), ("rewind lr to 20ep", "TD302"),
        ("rewind lr; rewind lr", "TD304"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_found(cycle: str, code: str) -> None:
    assert code in codes(HEAD + f"prune weights 50%; rewind lr\ncycle 2 {{ {cycle} }}")


@pytest.mark.parametrize(
    "cycle", ["rewind weights; perturb 5%", "retrain scratch; perturb 5%", "grow weights all; rewind lr"]
)
def test_what_starts_over_from_something_else_makes_sense(cycle: str) -> None:
    assert "TD541" not in codes(HEAD + f"prune weights 50%; rewind lr\ncycle 2 {{ {cycle} }}")


def test_a_single_round_may_start_over() -> None:
    text = HEAD + "prune weights 20% x 3; retrain fine-tune 2ep lr=0.01\ncycle 1 { rewind weights to 1ep }"
    assert "TD541" not in codes(text)
    last = study(text).levels[-1]
    assert last.structure == study(text).levels[-2].structure
    assert study(text).step(last.ticket).args["start"] == "1ep"


def test_a_dense_network_is_trained_in_cycles() -> None:
    result = study(HEAD + "cycle 3 { rewind lr }")
    levels = [result.step(level.ticket) for level in result.levels]
    assert [(level.level, level.unit, level.structure) for level in result.levels] == [(n, "", None) for n in (1, 2, 3)]
    before = result.levels[0].dense
    for level in levels:
        assert level.operation == "train" and level.parents == {"weights": before}
        before = level.key
    assert result.trainings == 4


def test_a_prune_after_cycles_of_the_dense_network_prunes_the_last_one() -> None:
    alone = study(HEAD + "cycle 2 { rewind lr }")
    result = study(HEAD + "cycle 2 { rewind lr }\nprune weights 50% x 2; rewind lr")
    assert [level.level for level in result.levels] == [1, 2, 3, 4]
    assert [level.ticket for level in result.levels[:2]] == [level.ticket for level in alone.levels]
    prune = result.step(str(result.levels[2].structure))
    assert prune.operation == "prune" and prune.parents == {"weights": result.levels[1].ticket}


def test_cycles_before_the_arms_are_trained_once() -> None:
    text = (
        HEAD + "cycle 2 { rewind lr }\narm a { prune weights 50%; rewind lr }\narm b { cycle 1 { retrain linear 2ep } }"
    )
    result = study(text + "\ncompare a, b")
    shared = {level.ticket for level in result.levels if level.level in (1, 2)}
    assert len(shared) == 2 and result.trainings == 5
    assert set(study(expand(plan(text))).graph) == set(result.graph)


@pytest.mark.parametrize("own", ["cycle 1 { rewind lr }\nprune weights 50%; rewind lr", "prune weights 50% at 2ep"])
def test_arms_with_recipes_of_their_own_continue_cycles_of_the_dense_network(own: str) -> None:
    text = (
        HEAD
        + f"cycle 2 {{ rewind lr }}\narm a {{ train 4ep lr=0.01\n{own} }}\narm b {{ prune weights 20%; rewind lr }}"
    )
    result = study(text)
    lengths = [result.step(level.ticket).args["recipe"]["length"] for level in result.levels if level.arm == "a"]
    assert lengths == ["10ep", "10ep", *(["4ep", "4ep"] if "cycle" in own else ["10ep"])]
    assert set(study(expand(plan(text))).graph) == set(result.graph)


def test_an_arm_of_cycles_teaches_what_it_ends_with() -> None:
    text = "arm teacher { cycle 2 { rewind lr } }\narm a { prune weights 50%; rewind lr; distill from teacher }"
    result = study(HEAD + text + "\ncompare teacher, a")
    taught = next(result.step(level.ticket) for level in result.levels if level.arm == "a")
    assert taught.parents["teacher"] == [level.ticket for level in result.levels if level.arm == "teacher"][-1]


def test_controls_begin_with_the_first_prune() -> None:
    result = study(HEAD + "cycle 2 { rewind lr }\nprune weights 50%; rewind lr\ncompare random-init, random-structure")
    levels = {m.level for m in result.measurements if m.contestant in ("random-init", "random-structure")}
    assert levels == {3}


def test_cycles_of_the_dense_network_count_in_every_check() -> None:
    (alone,) = plan(HEAD + "cycle 3 { rewind lr to 5ep }").arms
    assert total_epochs(alone) == 10 + 3 * 5
    (both,) = plan(HEAD + "cycle 3 { rewind lr }\nprune weights 20% x 2; rewind lr").arms
    assert total_epochs(both) == 10 + 3 * 10 + 2 * 10


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        ("cycle 2 { rewind lr to 20ep }", "TD302"), ("cycle 2 { rewind weights }", "TD541"),
        ("cycle 2 { perturb 5% }", "TD541"), ("seeds 2\ncycle 2 { rewind mask of next seed; rewind lr }", "TD541"),
        ("cycle 2 { grow weights all; rewind lr }", "TD457"), ("cycle 2 { rewind lr; evolve weights 30% }", "TD452"),
        ("cycle 2 { rewind lr }\nrewind lr", "TD007"),
        ("cycle 2 { cycle 2 { rewind lr }; prune weights 20% }", "TD301"),
        ("cycle 2 { rewind lr }\ntransfer to mnist size=8", "TD301"),
        ("cycle 2 { rewind lr }\nstretch to conv4", "TD301"), ("cycle 1001 { rewind lr }", "TD208"),
        ("split classes 2\ncycle 2 { rewind lr }\nprune weights 20%; overlap; rewind weights", "TD542"),
        ("cycle 2 { rewind lr to 50% }\nprune weights 20% at 2ep", "TD302"),
        ("arm a { cycle 4 { rewind lr } }\narm b { cycle 1 { rewind lr } }\ncompare a, b", "TD509"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_before_a_prune_is_found(statements: str, code: str) -> None:
    assert code in codes(HEAD + statements)


def test_conditions_of_a_plan_end_cycles_of_the_dense_network() -> None:
    found = check(load_source(Source("test.plan", HEAD + "cycle 3 { rewind lr }\nstop when sparsity > 50%")))
    assert "TD514" in {d.code for d in found.diagnostics}
    found = check(load_source(Source("test.plan", HEAD + "cycle 3 { rewind lr }\nstop when loss < 0.5")))
    assert found.plan is not None


def test_precision_is_resolved_in_every_cycle() -> None:
    text = "model small-cnn on digits\ntrain 10ep precision=auto\ncycle 2 { retrain linear 4ep }\n"
    text += "prune weights 50%; rewind lr\ncycle 2 { retrain linear 4ep }"
    resolved = resolve_precision(plan(text), torch.device("cpu"))
    result = lower(resolved, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 5)
    recipes = [result.step(level.ticket).args["recipe"] for level in result.levels]
    assert len(recipes) == 5 and all("precision" not in recipe for recipe in recipes)


def test_a_condition_cannot_end_the_rounds_before_a_cycle() -> None:
    assert "TD006" in codes(HEAD + "prune weights 20% until accuracy < 50%; rewind lr\ncycle 2 { rewind lr }")


@pytest.mark.parametrize(
    "prune", ["prune weights 20% from init to 2ep every 3it", "prune filters 20% via zeroing every=1ep"]
)
def test_a_repeated_prune_in_a_training_is_written_as_a_cycle(prune: str) -> None:
    """These take no `x N`."""
    text = HEAD + f"cycle 2 {{ {prune}; rewind weights to 1ep }}\ncycle 2 {{ rewind lr }}"
    once = expand(plan(text))
    assert once.count("cycle 2 {") == 2
    assert set(study(once).graph) == set(study(text).graph)
