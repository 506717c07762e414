"""One ticket that is found once and trained by several optimisers: which steps are shared."""

from __future__ import annotations

from test_lower import study

PLAN = """model small-cnn on digits
train 10ep lr=0.1
seeds 2
prune weights 20% x 3; rewind weights to init
prune weights 20%
arm sgd    { rewind weights to init }
arm adam   { rewind weights to init; retrain recipe 10ep opt=adam lr=0.002 }
arm focal  { rewind weights to init; retrain recipe 20ep opt=adamw lr=0.002 loss=focal }
"""


def test_the_ticket_is_found_once() -> None:
    """Of every seed: a dense training, three rounds of finding, and one training per arm; each prune once."""
    found = study(PLAN)
    assert found.trainings == 2 * (1 + 3 + 3)
    assert sum(found.step(key).operation == "prune" for key in found.graph) == 2 * 4
    assert found.naive_trainings > 2 * found.trainings


def test_the_trainings_of_a_ticket_differ_in_nothing_but_the_recipe() -> None:
    found = study(PLAN)
    for seed in (1, 2):
        last = {level.arm: level for level in found.levels if level.seed == seed and level.level == 4}
        assert len({level.structure for level in last.values()}) == 1
        trained = {arm: found.step(level.ticket) for arm, level in last.items()}
        assert len({level.ticket for level in last.values()}) == 3
        assert len({step.parents["weights"] for step in trained.values()}) == 1
        assert {found.step(step.parents["weights"]).operation for step in trained.values()} == {"init"}
        recipes = {arm: step.args["recipe"] for arm, step in trained.items()}
        assert [recipes[arm].get("optimizer") for arm in ("sgd", "adam", "focal")] == [None, "adam", "adamw"]
        assert recipes["focal"]["loss"] == "focal" and recipes["focal"]["length"] == "20ep"
        for level in range(4):
            assert len({each.ticket for each in found.levels if (each.seed, each.level) == (seed, level)}) <= 1


def test_a_further_recipe_costs_one_training_per_seed() -> None:
    more = PLAN + "arm slow { rewind weights to init; retrain recipe 40ep opt=adam lr=0.0005 }\n"
    one, other = study(PLAN), study(more)
    added = set(other.graph) - set(one.graph)
    assert len(added) == 2 and {other.step(key).operation for key in added} == {"train"}
