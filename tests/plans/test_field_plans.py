"""What the plans of recent experiments mean, in steps: where masks, signs and weights come from, what is measured."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.reading.parse import read_source
from tickdsl.plan.lower import lower
from tickdsl.plan.steps import Step
from tickdsl.plan.study import Level, Study

PLANS = Path(__file__).parents[2] / "plans"
#: The full-size plans of the experiments, each with a small version of the same name.
FIELD = (
    "er-erk", "er-balanced", "lr-rewinding", "cyclic", "signs", "sign-barriers", "permuted-masks", "srigl", "perturbed",
    "sparse-language",
)  # fmt: skip


def study(path: Path) -> Study:
    plan = resolve(load_source(read_source(path))).plan
    assert plan is not None
    return lower(plan, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 3)


@pytest.fixture(params=["papers", "."])
def folder(request: pytest.FixtureRequest) -> Path:
    return PLANS / str(request.param)


def last_levels(found: Study, name: str) -> list[Level]:
    """The last level of every arm of that name, for each seed and combination of sweep values."""
    last = {(level.arm, level.seed): level for level in found.levels if level.arm.partition("[")[0] == name}
    assert last
    return list(last.values())


def behind(found: Study, key: str, *roles: str) -> Step:
    """The step that is reached from another one along these roles."""
    step = found.step(key)
    for role in roles:
        step = found.step(step.parents[role])
    return step


@pytest.mark.parametrize("name", FIELD)
def test_every_experiment_has_two_sizes_with_three_seeds(name: str) -> None:
    for path in (PLANS / "papers" / f"{name}.plan", PLANS / f"{name}.plan"):
        found = study(path)
        assert len(found.plan.seeds) == 3
        assert found.measurements


def test_cyclic_training_keeps_its_mask_and_goes_on_with_its_weights(folder: Path) -> None:
    found = study(folder / "cyclic.plan")
    for arm in found.plan.arms:
        if arm.name not in ("random", "cycles"):
            continue
        levels = [level for level in found.levels if level.arm == arm.id and level.seed == 1]
        assert len(levels) == 5 and len({level.structure for level in levels}) == 1
        for before, after in itertools.pairwise(levels):
            assert behind(found, after.ticket, "weights").key == before.ticket
    for level in last_levels(found, "sculpt"):
        assert found.step(level.structure).operation == "prune"
        trained = behind(found, level.structure, "weights")
        assert behind(found, trained.key, "weights").operation == "train"  # in cycles


def test_signs_come_from_the_donor_and_magnitudes_from_init(folder: Path) -> None:
    found = study(folder / "signs.plan")
    for level in last_levels(found, "signs"):
        start = behind(found, level.ticket, "weights")
        assert (start.operation, start.args["what"]) == ("mix", "magnitudes")
        assert behind(found, start.key, "origin").operation == "init"
        assert behind(found, start.key, "origin").seed == level.seed
        donor = behind(found, start.key, "weights", "origin")
        assert donor.operation == "train" and donor.seed not in found.plan.seeds
        assert behind(found, level.structure, "weights").key == donor.key
        assert found.step(level.ticket).seed == level.seed
    for level in last_levels(found, "mask"):
        assert behind(found, level.ticket, "weights").operation == "init"


def test_barriers_join_tickets_of_equal_seeds_and_of_neighbours(folder: Path) -> None:
    found = study(folder / "sign-barriers.plan")
    lines = {str(line): line for line in found.plan.lines}
    assert {m.report_metric for m in found.measurements if m.line} == set(lines)
    for m in (m for m in found.measurements if m.line):
        seed = m.seed if lines[m.report_metric].end else found.plan.donor("next", m.seed)
        assert behind(found, m.step, "weights").seed == m.seed
        assert behind(found, m.step, "other").seed == seed
        assert behind(found, m.step, "weights").key != behind(found, m.step, "other").key


@pytest.mark.parametrize("match", ["weights", "activations"])
def test_permuted_masks_are_those_of_the_next_seed_in_another_order(folder: Path, match: str) -> None:
    found = study(folder / "permuted-masks.plan")
    for naive, permuted in zip(last_levels(found, "naive"), last_levels(found, f"by-{match}"), strict=True):
        align = found.step(permuted.structure)
        assert align.operation == "align" and align.parents["structure"] == naive.structure
        assert align.args.get("by", "weights") == match
        donor = found.plan.donor("next", permuted.seed)
        assert (found.step(align.parents["own"]).seed, found.step(align.parents["other"]).seed) == (
            permuted.seed, donor,
        )  # fmt: skip
        starts = [behind(found, level.ticket, "weights") for level in (naive, permuted)]
        assert starts[0].key == starts[1].key and starts[0].seed == permuted.seed


def test_noise_is_added_to_what_the_other_arm_is_trained_from(folder: Path) -> None:
    found = study(folder / "perturbed.plan")
    kept = {level.seed: behind(found, level.ticket, "weights").key for level in last_levels(found, "kept")}
    shares = set()
    for level in last_levels(found, "noisy"):
        noise = behind(found, level.ticket, "weights")
        assert noise.operation == "perturb" and noise.parents["weights"] == kept[level.seed]
        shares.add(noise.args["share"])
    assert len(shares) >= 3
