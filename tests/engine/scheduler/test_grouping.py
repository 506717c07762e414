"""What is begun together: each step once, trainings that are alike, and none before its like can be ready."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frontier import ORDERS, PLANS, plain, study

from tickdsl.engine.scheduler.step_grouper import StackingKeys, StepGrouper
from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.plan.study import Study
from tickdsl.records import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def sizeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No structure is there to be read: all are of one size."""
    monkeypatch.setattr(StackingKeys, "_structure_sizes", lambda self, step: [])


def walk(found: Study, store: Store, draw: random.Random, most: int, jobs: int = 3) -> list[list[str]]:
    """What was begun together, where groups end in any order and some of their steps are put back."""
    done: dict[str, Mapping[str, Any]] = {}
    frontier = StepScheduler(found, done.get)
    grouping = StepGrouper(found, store, frontier, most)
    groups: list[list[str]] = []
    running: list[list[str]] = []
    while frontier.pending:
        while len(running) < jobs and (keys := grouping.take_batch([key for each in running for key in each], ())):
            running.append(keys)
        assert running, "steps are wanted, but none can begin"
        ended = running.pop(draw.randrange(len(running)))
        apart = [key for key in ended[1:] if draw.random() < 0.2]
        for key in apart:
            frontier.requeue(key)
        groups.append([key for key in ended if key not in apart])
        for key in groups[-1]:
            for each in (*found.graph.nodes[key]["prefixes"].values(), key):
                if each not in done:
                    done[each] = plain(each)
                    frontier.finish(each)
        frontier.pop_measured()
    return groups


@settings(deadline=None)
@given(ORDERS, st.sampled_from(PLANS), st.integers(1, 8))
def test_each_step_is_begun_once(store: Store, draw: random.Random, text: str, most: int) -> None:
    found = study(text)
    groups = walk(found, store, draw, most)
    begun = [key for group in groups for key in group]
    points = {key for key in found.graph if found.graph.nodes[key].get("prefix_of")}
    assert len(begun) == len(set(begun)) and set(begun) == set(found.graph) - points
    assert max(map(len, groups)) <= most
    for group in groups:
        steps = [found.step(key) for key in group]
        alike = [{name: value for name, value in step.args.items() if name != "noise"} for step in steps]
        assert len(group) == 1 or all(step.operation == "train" for step in steps)
        assert all(args == alike[0] for args in alike)


def test_trainings_of_all_seeds_wait_for_each_other(store: Store) -> None:
    found = study("seeds 4\nprune weights 20% x 3; rewind weights to 1ep")
    done: dict[str, Mapping[str, Any]] = {}
    frontier = StepScheduler(found, done.get)
    grouping = StepGrouper(found, store, frontier, 4)
    groups: list[list[str]] = []
    while frontier.pending:
        running: list[list[str]] = []
        while len(running) < 2 and (keys := grouping.take_batch([key for each in running for key in each], ())):
            running.append(keys)
        for keys in running:
            groups.append(keys)
            for key in keys:
                for each in (*found.graph.nodes[key]["prefixes"].values(), key):
                    done[each] = plain(each)
                    frontier.finish(each)
    trainings = [keys for keys in groups if found.step(keys[0]).operation == "train"]
    assert [len(keys) for keys in trainings] == [4, 4, 4, 4]


def test_what_makes_a_training_one_of_its_own(store: Store) -> None:
    text = (
        "seeds 2\narm a { prune weights 20%; rewind weights }\n"
        "arm b { prune weights 20%; rewind weights; distill from dense }\n"
        "arm c { train 4ep compile=on; prune weights 30%; rewind weights }\n"
        "arm d { split samples 2; prune weights 30%; overlap; rewind weights }\ncompare all, random-init budget=flops"
    )
    found = study(text)
    likeness = StackingKeys(found, store)
    words: dict[bytes | None, list[str]] = {}
    for key in found.graph:
        words.setdefault(likeness.key_for(key), []).append(key)
    for key in words[None]:
        step = found.step(key)
        own = {"distill", "budget"} & step.args.keys() or step.args.get("recipe", {}).get("compile") == "on"
        assert step.operation != "train" or own
    seeds = [{found.step(key).seed for key in keys} for like, keys in words.items() if like is not None]
    parts = [
        {found.step(key).seed for key in keys}
        for like, keys in words.items()
        if like is not None and found.step(keys[0]).args["data"].get("part")
    ]
    assert {1, 2} in seeds and parts and all(len(each) == 1 for each in parts), "shares are drawn from the seed"


def test_what_was_refused_once_is_refused(store: Store) -> None:
    found = study("seeds 2\nprune weights 20%; rewind lr")
    likeness = StackingKeys(found, store)
    one, other = [key for key in found.graph if likeness.key_for(key) and not found.step(key).parents.get("structure")][
        :2
    ]
    assert likeness.key_for(one) == likeness.key_for(other) is not None
    assert likeness.disable(one) and not likeness.disable(other)
    assert likeness.key_for(one) is likeness.key_for(other) is None
