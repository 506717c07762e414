"""`rewind mask of run`: which ticket it is, that its mask is trained, and what `check` says where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from step_runner import step_runner
from stored_runs import ticket_of, written_run

from tickdsl.checks import check
from tickdsl.engine.run_masks import RunMaskError, find_mask
from tickdsl.lang.expansion import expand
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.model import MaskOf, Plan

HEAD = "model small-cnn on digits\ntrain 2ep lr=0.1\nseeds 3\n"
#: The network that `step_runner` has.
OF_RUNNER: Any = {"width": 0.5, "channels": 3}


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text)))
    assert resolved.plan is not None, resolved.diagnostics
    return resolved.plan


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("test.plan", text))).diagnostics if d.severity != "note"}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_seed_takes_its_own_mask_of_the_same_level(working_folder: Path) -> None:
    written_run(working_folder)
    wanted = MaskOf("", run="lth")
    found = [find_mask(wanted, level, seed) for seed in (1, 2) for level in (1, 2, 3)]
    assert [(each.seed, each.level) for each in found] == [(1, 1), (1, 2), (1, 2), (2, 1), (2, 2), (2, 2)]
    named = find_mask(MaskOf("", run="runs/lth", arm="a", level=1, seed=3), 2, 1)
    assert (named.arm, named.level, named.seed) == ("a", 1, 3)


@pytest.mark.parametrize(
    ("wanted", "seed", "code"),
    [
        (MaskOf("", run="missing"), 1, "TD465"), (MaskOf("", run="latest"), 1, "TD465"),
        (MaskOf("", run="two"), 1, "TD481"), (MaskOf("", run="lth", arm="b"), 1, "TD481"),
        (MaskOf("", run="lth"), 9, "TD481"), (MaskOf("", run="lth", level=7), 1, "TD481"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_unique_is_refused(working_folder: Path, wanted: MaskOf, seed: int, code: str) -> None:
    written_run(working_folder)
    written_run(working_folder, "two", arms=("a", "b"))
    with pytest.raises(RunMaskError) as caught:
        find_mask(wanted, 1, seed)
    assert caught.value.code == code


def test_a_run_with_one_seed_gives_it_to_all(working_folder: Path) -> None:
    written_run(working_folder, seeds=(5,))
    assert find_mask(MaskOf("", run="lth"), 1, 2).seed == 5


def test_the_mask_is_trained_from_the_own_weights(working_folder: Path) -> None:
    written_run(working_folder, **OF_RUNNER)
    text = 'prune weights 20% x 2; rewind mask of run "lth"; rewind weights to 1ep'
    found = step_runner(working_folder, text)
    for level in found.levels("ticket", 1):
        structure, theirs = found.structure(level.structure), ticket_of("a", 1, level.level, **OF_RUNNER)
        assert all(np.array_equal(structure.masks[name], mask) for name, mask in theirs.masks.items())
        assert structure.masks.keys() == theirs.masks.keys()
        trained = found.weights(level.ticket)
        assert all(not trained[name].numpy()[~np.asarray(mask)].any() for name, mask in theirs.masks.items())


def test_units_that_are_gone_go_along(working_folder: Path) -> None:
    written_run(working_folder, units=True, **OF_RUNNER)
    text = 'prune filters 20%; rewind mask of run "lth"; rewind weights to 1ep'
    found = step_runner(working_folder, text)
    (level,) = found.levels("ticket", 1)
    assert found.structure(level.structure).kept.keys() == {"conv1"}
    found.run_step(level.ticket)


def test_a_key_tells_the_mask_and_not_where_it_is(working_folder: Path) -> None:
    written_run(working_folder)
    text = HEAD + 'prune weights 20%; rewind mask of run "lth"; rewind weights'

    def keys(store: str) -> set[str]:
        def argument(tail: MaskOf, seed: int, level: int) -> dict[str, object]:
            return {**find_mask(tail, level, seed).argument, "options": {"store": store}}

        return set(lower(plan(text), fingerprint=str, rounds=lambda arm, prune: 1, mask_of_run=argument).graph)

    assert keys("here") == keys("there")


@pytest.mark.parametrize("options", ["", " arm=a", ' arm="a[share=10%]" level=2 seed=7'])
def test_expanded_it_is_the_same_statement(options: str) -> None:
    text = f'{HEAD}prune weights 20% x 2; rewind mask of run "runs/lth"{options}; rewind weights to 1ep'
    once = expand(plan(text))
    assert 'rewind mask of run "runs/lth"' in once and expand(plan(once)) == once
    assert plan(once).arms[0].rounds == plan(text).arms[0].rounds


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        ('prune weights 20%; rewind mask of run "nowhere"; rewind weights', "TD465"),
        ('prune weights 20%; rewind mask of run "two"; rewind weights', "TD481"),
        ('prune weights 20%; rewind mask of run "wide"; rewind weights', "TD466"),
        ('prune weights 20%; rewind mask of run "gone"; rewind weights', "TD482"),
        ('prune weights 20%; rewind mask of run "filters"; rewind lr', "TD546"),
        ('prune weights 20%; rewind mask of run "lth" seed=2; rewind weights', "TD549"),
        ('prune weights 20%; rewind signs of run "lth"', "TD544"),
        ('prune weights 20%; rewind mask of run "lth" to 1ep', "TD544"),
        ('prune weights 20%; rewind mask of run "lth" align=dense; rewind weights', "TD544"),
        ("prune weights 20%; rewind mask of next seed level=2; rewind weights", "TD544"),
        ("prune weights 20%; rewind weights level=2", "TD544"),
        ("let n = 5\nprune weights 20%; rewind mask of run $n; rewind weights", "TD105"),
        ('prune weights 20%; rewind mask of run "lth" level=0; rewind weights', "TD105"),
        ('split classes 2\nprune weights 20%; overlap; rewind mask of run "lth"; rewind weights', "TD542"),
    ],
)
def test_mistakes_are_found(working_folder: Path, statements: str, code: str) -> None:
    written_run(working_folder)
    written_run(working_folder, "two", arms=("a", "b"))
    written_run(working_folder, "wide", width=2)
    written_run(working_folder, "gone", stored=False)
    written_run(working_folder, "filters", units=True)
    assert code in codes(HEAD + statements)


@pytest.mark.parametrize(
    "statements",
    [
        'prune weights 20% x 3; rewind mask of run "lth"; rewind weights to 1ep',
        'let name = "lth"\nprune weights to 99%; rewind mask of run $name level=2; rewind lr',
        'prune weights 20%; rewind lr\ncycle 2 { rewind mask of run "lth"; rewind weights; perturb 5% }',
        'prune weights to 80%; rewind mask of run "lth"; rewind lr\nprune weights to 70%; rewind lr',
    ],
)
def test_what_fits_is_accepted(working_folder: Path, statements: str) -> None:
    written_run(working_folder)
    assert codes(HEAD + statements) == set()
