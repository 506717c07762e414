"""Tickets of other seeds: which networks they come from, and that no seed waits for itself."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.checks import check
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.linked_seeds import linked, takes
from tickdsl.plan.lower import lower
from tickdsl.plan.model import Plan
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Level, Study

HEAD = "model small-cnn on digits\ntrain 10ep lr=0.1\n"


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text)))
    assert resolved.plan is not None, resolved.diagnostics
    return resolved.plan


def study(text: str) -> Study:
    return lower(plan(text), fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 5)


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("test.plan", text)), network=False).diagnostics}


def levels(found: Study, seed: int) -> list[Level]:
    return [level for level in found.levels if level.seed == seed]


def seeds_behind(found: Study, key: str) -> set[int | None]:
    """The seeds of all trainings that a step depends on."""
    steps = map(found.step, nx.ancestors(found.graph, key))
    return {step.seed for step in steps if step.operation == "train"}


def test_a_mask_comes_from_the_same_round_of_the_next_seed() -> None:
    found = study(HEAD + "seeds [4, 1, 9]\nprune weights 20% x 3; rewind mask of next seed; rewind weights to 1ep")
    for seed, donor in ((4, 1), (1, 9), (9, 4)):
        for number, level in enumerate(levels(found, seed)):
            prune = found.step(level.structure)
            weights = found.step(prune.parents["weights"])
            assert weights.seed == donor
            if number:
                assert weights.key == levels(found, donor)[number - 1].ticket
            ticket = found.step(level.ticket)
            assert ticket.seed == seed and found.step(ticket.parents["weights"]).seed == seed


def test_seeds_are_linked_one_round_further_in_every_round() -> None:
    found = study(HEAD + "seeds 5\nprune weights 20% x 3; rewind mask of next seed; rewind weights to 1ep")
    behind = [seeds_behind(found, level.structure) for level in levels(found, 1)]
    assert behind == [{2}, {2, 3}, {2, 3, 4}]


STATEMENTS = st.lists(
    st.sampled_from(
        ["rewind mask of {}; rewind weights to 1ep", "rewind signs of {}", "rewind weights of {} to 2ep",
         "rewind magnitudes of {} align=current", "rewind mask of {} align=dense; rewind signs of {}; perturb 5%",
         "rewind lr"]
    ), min_size=1, max_size=3,
)  # fmt: skip


@settings(deadline=None)
@given(STATEMENTS, st.lists(st.sampled_from(["next seed", "seed 1", "seed 2", "seed 7"]), min_size=3, max_size=3))
def test_whatever_seeds_take_from_each_other_the_steps_have_an_order(statements: list[str], donors: list[str]) -> None:
    rounds = [
        f"prune weights 20% x 2; {statement.replace('{}', donor)}"
        for statement, donor in zip(statements, donors, strict=False)
    ]
    text = HEAD + "seeds 3\n" + "\n".join(rounds) + "\ncycle 2 { rewind signs of next seed }\n"
    found = study(text)
    assert nx.is_directed_acyclic_graph(found.graph)
    assert {m.seed for m in found.measurements} == {1, 2, 3}
    once = expand(plan(text))
    assert set(study(once).graph) == set(found.graph)


def test_a_donor_outside_of_the_plan_is_trained_and_not_measured() -> None:
    found = study(HEAD + "seeds [1, 2]\nprune weights 20%; rewind mask of seed 7; rewind weights to init")
    assert {step.seed for step in map(found.step, found.graph) if step.operation == "train"} == {1, 2, 7}
    assert {m.seed for m in found.measurements} == {level.seed for level in found.levels} == {1, 2}
    (structure,) = {level.structure for level in found.levels}
    assert found.step(found.step(structure).parents["weights"]).seed == 7
    other = study(HEAD + "seeds [7]\nprune weights 20%; rewind weights to init")
    assert other.levels[0].structure == structure


def test_a_seed_takes_nothing_from_itself() -> None:
    own = study(HEAD + "seeds [2]\nprune weights 20% x 2; rewind signs to 2ep")
    taken = study(HEAD + "seeds [2, 3]\nprune weights 20% x 2; rewind signs of seed 2 to 2ep align=dense")
    assert [level.ticket for level in own.levels] == [level.ticket for level in levels(taken, 2)]
    assert [level.ticket for level in own.levels] != [level.ticket for level in levels(taken, 3)]


def test_without_a_moment_it_is_the_network_at_this_point() -> None:
    found = study(HEAD + "seeds 2\nprune weights 20% x 2; rewind signs of next seed")
    mix = found.step(found.step(levels(found, 1)[1].ticket).parents["weights"])
    assert mix.args["what"] == "signs"
    assert mix.parents["weights"] == levels(found, 1)[0].ticket
    assert mix.parents["origin"] == levels(found, 2)[0].ticket
    dense = study(HEAD + "seeds 2\nprune weights 20% x 2; rewind signs of next seed to 3ep")
    mix = dense.step(dense.step(levels(dense, 1)[1].ticket).parents["weights"])
    assert dense.step(mix.parents["origin"]).args["stop"] == "3ep"


def test_signs_of_another_seed_meet_the_own_initial_magnitudes() -> None:
    found = study(
        HEAD + "seeds 2\nprune weights 20% x 2; rewind lr\n"
        "prune weights 20%; rewind mask of seed 9; rewind signs of seed 9; rewind magnitudes to init"
    )
    level = levels(found, 1)[-1]
    magnitudes = found.step(found.step(level.ticket).parents["weights"])
    signs = found.step(magnitudes.parents["weights"])
    assert magnitudes.args["what"] == "magnitudes" and found.step(magnitudes.parents["origin"]).operation == "init"
    assert signs.args["what"] == "signs" and found.step(signs.parents["origin"]).seed == 9
    assert signs.parents["structure"] == magnitudes.parents["structure"] == level.structure
    assert found.step(signs.parents["weights"]).seed == 1


def test_aligned_by_the_dense_networks_or_by_the_current_ones() -> None:
    text = "seeds 2\nprune weights 20% x 2; rewind mask of next seed align={}; rewind weights to init"
    dense, current = (study(HEAD + text.format(kind)) for kind in ("dense", "current"))
    aligned = [dense.step(level.structure) for level in levels(dense, 1)]
    assert all(step.operation == "align" for step in aligned)
    assert len({step.parents["own"] for step in aligned}) == 1
    networks = [current.step(level.structure).parents["own"] for level in levels(current, 1)]
    assert networks[1] == levels(current, 1)[0].ticket


def test_matched_by_activations_the_images_belong_to_the_step_and_its_seed() -> None:
    text = (
        "seeds 2\nprune weights 20%; rewind mask of next seed align=dense{}; "
        "rewind weights of next seed to 1ep align=dense{}"
    )

    def aligned(options: str) -> list[Step]:
        found = study(HEAD + text.format(options, options))
        level = levels(found, 1)[0]
        return [found.step(level.structure), found.step(found.step(level.ticket).parents["weights"])]

    by_weights, default, few = (aligned(each) for each in ("", " match=activations", " match=activations images=100"))
    assert all(step.seed is None and "images" not in step.args for step in by_weights)
    assert [step.key for step in aligned(" match=weights")] == [step.key for step in by_weights]
    assert [step.args["images"] for step in (*default, *few)] == [1024, 1024, 100, 100]
    assert {step.seed for step in (*default, *few)} == {1}
    assert len({step.key for step in (*by_weights, *default, *few)}) == 6
    assert [step.key for step in aligned(" match=activations images=1024")] == [step.key for step in default]


def test_noise_has_another_draw_each_time() -> None:
    found = study(HEAD + "prune weights 20% x 3; rewind weights; perturb 5%")
    noise = [found.step(found.step(level.ticket).parents["weights"]) for level in found.levels]
    assert [step.args.get("draw") for step in noise] == [None, 1, 2] and {step.seed for step in noise} == {1}


def test_between_seeds_networks_of_one_level_are_compared() -> None:
    found = study(
        HEAD + "seeds 3\nprune weights 20% x 2; rewind lr\ncompare random-init\nreport distance, mask-overlap"
    )
    compared = [m for m in found.measurements if m.report_metric == "mask-overlap" and m.contestant == "ticket"]
    assert [(m.seed, m.level) for m in compared] == [(s, n) for s in (1, 2, 3) for n in (1, 2)]
    for m in compared:
        parents = found.step(m.step).parents
        assert parents["weights"] == levels(found, m.seed)[m.level - 1].ticket
        assert parents["other"] == levels(found, m.seed % 3 + 1)[m.level - 1].ticket
    fresh = next(m for m in found.measurements if m.report_metric == "distance" and m.contestant == "random-init")
    origin = found.step(found.step(fresh.step).parents["origin"])
    assert origin.operation == "init" and origin.args["role"] == "random-init"


def test_lines_join_arms_at_equal_levels_and_seeds() -> None:
    found = study(
        HEAD + "seeds 2\nsweep share in [10%, 20%]\n"
        "arm a { prune weights $share x 2; rewind lr }\narm b { prune weights $share x 3; rewind weights to 1ep }\n"
        "compare a, b\nreport barrier of a to b, barrier of b to dense, barrier of dense to next seed"
    )
    tickets = {(level.arm, level.seed, level.level): level.ticket for level in found.levels}
    lines = [m for m in found.measurements if m.report_metric == "barrier of a to b"]
    assert sorted({(m.arm, m.level) for m in lines}) == [
        (f"a[share={share}]", level) for share in ("10%", "20%") for level in (1, 2)
    ]
    for m in lines:
        step = found.step(m.step)
        assert step.parents["weights"] == tickets[m.arm, m.seed, m.level]
        assert step.parents["other"] == tickets[m.arm.replace("a[", "b["), m.seed, m.level]
        # The first round is pruned from one dense network; later ones have masks of their own.
        assert ("masks" in step.args) == (m.level > 1)
    dense = [m for m in found.measurements if m.report_metric == "barrier of dense to next seed"]
    assert {(m.contestant, m.level) for m in dense} == {("dense", 0)}
    assert [m for m in found.measurements if m.report_metric == "barrier of b to dense" and m.level == 3]


def test_lines_are_written_out_for_each_value_of_a_sweep() -> None:
    text = (
        HEAD + "seeds 3\nsweep share in [10%, 20%]\narm a { prune weights $share; rewind lr }\n"
        "arm b { prune weights $share; rewind weights to 1ep }\ncompare a, b, random-init\n"
        "report accuracy, barrier of a to b, barrier of a to next seed"
    )
    once = expand(plan(text))
    assert "barrier of a-10 to b-10" in once and "barrier of a-20 to next seed" in once
    assert set(study(once).graph) == set(study(text).graph)


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        ("prune weights 20%; rewind lr of next seed", "TD544"),
        ("prune weights 20%; perturb 0%", "TD201"),
        ("prune weights 20%; perturb 1001%", "TD201"),
        ("let n = 5\nprune weights 20%; perturb $n", "TD105"),
        ("prune weights 20%; perturb 5%; perturb 6%; rewind lr", "TD304"),
        ("prune weights 20%; rewind signs; rewind weights", "TD304"),
        ("prune weights 20%; rewind signs to 1ep; rewind signs to 2ep", "TD304"),
        ("prune weights 20%; rewind lr; rewind signs", "TD304"),
        ("prune weights 20%; perturb 5%; retrain scratch", "TD304"),
        ("prune weights 20%; rewind lr; rewind mask of next seed", "TD007"),
        ("prune filters 20%; rewind magnitudes of next seed", "TD546"),
        ("prune filters 20%; rewind mask of next seed align=current; rewind weights", "TD546"),
        ("prune filters 20%; rewind weights of next seed to 1ep align=current", "TD546"),
        ("prune filters 20%; rewind signs of next seed align=dense", "TD546"),
        ("prune blocks 1; rewind mask of next seed align=dense; rewind weights", "TD546"),
        ("prune filters 20%; rewind lr; prune layers 1; rewind weights of next seed to 1ep align=dense", "TD546"),
        ("prune weights 20%; rewind mask of next seed match=activations; rewind weights", "TD544"),
        ("prune weights 20%; rewind weights match=activations", "TD544"),
        ("prune weights 20%; rewind mask of next seed align=dense images=500; rewind weights", "TD119"),
        ("prune weights 20%; rewind mask of next seed align=dense match=activations images=1; rewind weights", "TD105"),
        ("prune weights 20%; rewind mask of next seed align=dense match=gradients; rewind weights", "TD105"),
        ("prune weights 20%; rewind lr\nreport barrier of ticket to nowhere", "TD110"),
        ("prune weights 20%; rewind lr\nreport loss of ticket to dense", "TD548"),
    ],
)
def test_mistakes_are_found(statements: str, code: str) -> None:
    assert code in codes(f"{HEAD}seeds 3\n{statements}")


@pytest.mark.parametrize(
    "statements",
    [
        "prune weights 20%; rewind weights; perturb 5%",
        "prune weights 20%; rewind weights; retrain linear",
        "prune filters 20%; rewind signs",
        "prune filters 20%; rewind lr; perturb 300%",
        "prune weights 20%; rewind weights to 2ep; rewind signs",
        "prune weights 20%; rewind mask of seed 9; rewind signs of seed 9; rewind magnitudes  # ok TD549",
        "prune filters 20%; rewind mask of next seed; rewind weights  # ok TD549",
        "prune filters 20%; rewind weights of next seed to 1ep  # ok TD549",
        "prune filters 20%; rewind mask of next seed align=dense; rewind weights to 1ep  # ok TD549",
        "prune filters 20%; rewind weights of next seed to 1ep align=dense match=activations  # ok TD549",
        "prune neurons 20%; rewind mask of next seed align=dense; rewind weights of next seed to 1ep align=dense"
        "  # ok TD549",
    ],
)
def test_what_fits_is_accepted(statements: str) -> None:
    found = check(load_source(Source("test.plan", f"{HEAD}seeds 3\n{statements}")), network=False)
    assert [d for d in found.diagnostics if d.severity != "note"] == []


@pytest.mark.parametrize(
    ("statements", "taken"),
    [
        ("rewind weights", ""),
        ("rewind mask of seed 9; rewind weights", "takes the mask of seed 9"),
        (
            "rewind mask of next seed align=dense; rewind weights",
            "takes the mask of the next seed (4 from 1, 1 from 9, 9 from 4; aligned by the weights of the dense "
            "networks)",
        ),
        (
            "rewind mask of next seed align=current match=activations; rewind lr",
            "takes the mask of the next seed (4 from 1, 1 from 9, 9 from 4; aligned by the activations of the current "
            "networks)",
        ),
        (
            "rewind mask of seed 7; rewind signs of seed 7; rewind magnitudes of seed 7 align=dense",
            "takes the mask and the signs of seed 7 and the magnitudes of seed 7 (aligned by the weights of the dense "
            "networks)",
        ),
        (
            "rewind mask of next seed align=dense; rewind signs of next seed; rewind magnitudes of seed 7",
            "takes the mask of the next seed (4 from 1, 1 from 9, 9 from 4; aligned by the weights of the dense "
            "networks) and the signs of the next seed and the magnitudes of seed 7",
        ),
    ],
)
def test_what_seeds_take_is_said_in_words(statements: str, taken: str) -> None:
    found = plan(f"{HEAD}seeds [4, 1, 9]\nprune weights 20%; {statements}")
    (arm,) = found.arms
    assert takes(arm, found.seeds) == taken
    assert linked(arm, found.seeds).startswith(f"the seeds of `ticket` are linked: each {taken}; " if taken else "")
    assert bool(linked(arm, found.seeds)) == bool(taken)


def test_of_many_seeds_the_first_and_the_last_are_named() -> None:
    found = plan(f"{HEAD}seeds 12\nprune weights 20%; rewind mask of next seed; rewind weights")
    assert takes(found.arms[0], found.seeds) == "takes the mask of the next seed (1 from 2, …, 12 from 1)"


def test_steps_that_align_are_labelled_with_the_seed_they_take_from() -> None:
    found = study(
        HEAD + "seeds 2\nprune weights 20%; rewind mask of seed 7 align=dense; "
        "rewind signs of next seed to 1ep align=dense match=activations"
    )
    labels = [node["label"] for _, node in found.graph.nodes(data=True) if node["step"].operation == "align"]
    # The mask is seed 7's for both, in the order of each; whose steps they are, their parents say.
    assert sorted(labels) == [
        "align mask of seed 7 by weights", "align mask of seed 7 by weights",
        "align weights of seed 1 by activations", "align weights of seed 2 by activations",
    ]  # fmt: skip


def test_linked_seeds_are_said_in_the_check() -> None:
    linked = "prune weights 20%; rewind mask of next seed; rewind weights"
    assert "TD549" in codes(f"{HEAD}seeds 3\n{linked}")
    assert "TD549" not in codes(f"{HEAD}seeds 2\n{linked}")  # there is no verdict
