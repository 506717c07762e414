"""Steps that start together: each step once, stackable trainings together."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step_scheduler import ORDERS, PLANS, make_study, plain

from tickdsl.engine.scheduler.step_grouper import StackingKeys, StepGrouper
from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.plan.study import Study
from tickdsl.records import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def sizeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No results are stored, so all structures count as equal."""
    monkeypatch.setattr(StackingKeys, "_structure_sizes", lambda self, step: [])


def walk(study: Study, store: Store, draw: random.Random, most: int, jobs: int = 3) -> list[list[str]]:
    """The groups that start together if groups end in any order and some of their steps are requeued."""
    done: dict[str, Mapping[str, Any]] = {}
    scheduler = StepScheduler(study, done.get)
    grouper = StepGrouper(study, store, scheduler, most)
    groups: list[list[str]] = []
    running: list[list[str]] = []
    while scheduler.pending:
        while len(running) < jobs and (keys := grouper.take_batch([key for each in running for key in each], ())):
            running.append(keys)
        assert running, "steps are needed, but none can start"
        ended = running.pop(draw.randrange(len(running)))
        apart = [key for key in ended[1:] if draw.random() < 0.2]
        for key in apart:
            scheduler.requeue(key)
        groups.append([key for key in ended if key not in apart])
        for key in groups[-1]:
            for each in (*study.graph.nodes[key]["prefixes"].values(), key):
                if each not in done:
                    done[each] = plain(each)
                    scheduler.finish(each)
        scheduler.pop_measured()
    return groups


@settings(deadline=None)
@given(ORDERS, st.sampled_from(PLANS), st.integers(1, 8))
def test_each_step_is_begun_once(store: Store, draw: random.Random, text: str, most: int) -> None:
    study = make_study(text)
    groups = walk(study, store, draw, most)
    started = [key for group in groups for key in group]
    points = {key for key in study.graph if study.graph.nodes[key].get("prefix_of")}
    assert len(started) == len(set(started)) and set(started) == set(study.graph) - points
    assert max(map(len, groups)) <= most
    for group in groups:
        steps = [study.step(key) for key in group]
        alike = [{name: value for name, value in step.args.items() if name != "noise"} for step in steps]
        assert len(group) == 1 or all(step.operation == "train" for step in steps)
        assert all(args == alike[0] for args in alike)


def test_trainings_of_all_seeds_wait_for_each_other(store: Store) -> None:
    study = make_study("seeds 4\nprune weights 20% x 3; rewind weights to 1ep")
    done: dict[str, Mapping[str, Any]] = {}
    scheduler = StepScheduler(study, done.get)
    grouper = StepGrouper(study, store, scheduler, 4)
    groups: list[list[str]] = []
    while scheduler.pending:
        running: list[list[str]] = []
        while len(running) < 2 and (keys := grouper.take_batch([key for each in running for key in each], ())):
            running.append(keys)
        for keys in running:
            groups.append(keys)
            for key in keys:
                for each in (*study.graph.nodes[key]["prefixes"].values(), key):
                    done[each] = plain(each)
                    scheduler.finish(each)
    trainings = [keys for keys in groups if study.step(keys[0]).operation == "train"]
    assert [len(keys) for keys in trainings] == [4, 4, 4, 4]


def test_what_makes_a_training_one_of_its_own(store: Store) -> None:
    text = (
        "seeds 2\narm a { prune weights 20%; rewind weights }\n"
        "arm b { prune weights 20%; rewind weights; distill from dense }\n"
        "arm c { train 4ep compile=on; prune weights 30%; rewind weights }\n"
        "arm d { split samples 2; prune weights 30%; overlap; rewind weights }\ncompare all, random-init budget=flops"
    )
    study = make_study(text)
    likeness = StackingKeys(study, store)
    words: dict[bytes | None, list[str]] = {}
    for key in study.graph:
        words.setdefault(likeness.key_for(key), []).append(key)
    for key in words[None]:
        step = study.step(key)
        own = {"distill", "budget"} & step.args.keys() or step.args.get("recipe", {}).get("compile") == "on"
        assert step.operation != "train" or own
    seeds = [{study.step(key).seed for key in keys} for like, keys in words.items() if like is not None]
    parts = [
        {study.step(key).seed for key in keys}
        for like, keys in words.items()
        if like is not None and study.step(keys[0]).args["data"].get("part")
    ]
    assert {1, 2} in seeds and parts and all(len(each) == 1 for each in parts), "parts are drawn with the seed"


def test_what_was_refused_once_is_refused(store: Store) -> None:
    study = make_study("seeds 2\nprune weights 20%; rewind lr")
    likeness = StackingKeys(study, store)
    one, other = [key for key in study.graph if likeness.key_for(key) and not study.step(key).parents.get("structure")][
        :2
    ]
    assert likeness.key_for(one) == likeness.key_for(other) is not None
    assert likeness.disable(one) and not likeness.disable(other)
    assert likeness.key_for(one) is likeness.key_for(other) is None
