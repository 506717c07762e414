"""Which steps are needed and when: small studies, results in any order, failures."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.engine.scheduler.step_scheduler import StepScheduler
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.plan.study import Measurement, Study

ROUNDS = 5
#: The order in which results arrive.
ORDERS = st.integers(0, 2**32).map(random.Random)
Figures = Callable[[str], Mapping[str, Any]]


def make_study(text: str) -> Study:
    resolution = resolve(load_source(Source("test.plan", "model small-cnn on digits\ntrain 4ep\n" + text)))
    assert resolution.plan is not None, resolution.diagnostics
    return lower(resolution.plan, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: ROUNDS)


def walk(
    study: Study,
    figures: Figures,
    draw: random.Random,
    *,
    failing: frozenset[str] = frozenset(),
    stored: frozenset[str] = frozenset(),
    jobs: int = 3,
    work: Callable[[str], float] = lambda key: 1.0,
) -> tuple[list[str], set[Measurement]]:
    """The steps in the order in which they started, and the completed measurements."""
    done: dict[str, Mapping[str, Any]] = {key: figures(key) for key in stored}
    scheduler = StepScheduler(study, done.get, work)
    started: list[str] = []
    running: list[str] = []
    measured = list(scheduler.pop_measured())
    while scheduler.pending:
        while len(running) < jobs and not any(study.step(each).operation == "latency" for each in running):
            key = scheduler.take(quiet=not running)
            if key is None:
                break
            assert study.step(key).operation != "latency" or not running, (
                "a step that measures times does not run alone"
            )
            assert all(parent in done for parent in study.graph.predecessors(key))
            started.append(key)
            running.append(key)
        assert running, "steps are needed, but none can start"
        key = running.pop(draw.randrange(len(running)))
        if key in failing:
            scheduler.fail(key)
            continue
        if draw.random() < 0.1:
            scheduler.requeue(key)
            started.remove(key)
            continue
        for point in study.graph.nodes[key]["prefixes"].values():
            if point not in done:
                done[point] = figures(point)
                scheduler.finish(point)
        done[key] = figures(key)
        scheduler.finish(key)
        measured += scheduler.pop_measured()
    assert len(set(started)) == len(started)
    assert len(set(measured)) == len(measured)
    return started, set(measured)


def plain(key: str) -> Mapping[str, Any]:
    return {"accuracy": 0.9, "sparsity": 0.5, "filters": 0.5}


PLANS = [
    "prune weights 20% x 3; rewind lr",
    "seeds 2\nprune filters 20% x 2; rewind weights to 1ep\ncompare random-init, random-structure",
    "arm a { prune weights 20% x 2; rewind weights to 2ep }\narm b { prune weights 30% at 1ep }\ncompare a, b",
    "arm c { split classes 2; prune weights 30% x 2 except fc; overlap; rewind weights to 1ep }\ncompare c, dense",
    "seeds 2\nprune filters 20% x 3; rewind weights to 1ep\ncompare random-init\nreport latency, barrier, energy",
]


@pytest.mark.parametrize("text", PLANS)
@pytest.mark.parametrize("jobs", [1, 4])
def test_a_plan_without_ends_is_done_whole_and_each_step_once(text: str, jobs: int) -> None:
    study = make_study(text)
    started, measured = walk(study, plain, random.Random(1), jobs=jobs)
    points = {key for key in study.graph if study.graph.nodes[key].get("prefix_of")}
    assert set(started) == set(study.graph) - points
    assert measured == set(study.measurements)


@given(ORDERS, st.sampled_from(PLANS))
def test_what_is_stored_is_not_begun(draw: random.Random, text: str) -> None:
    study = make_study(text)
    first = [key for key in nx.topological_sort(study.graph) if draw.random() < 0.5]
    started, measured = walk(study, plain, draw, stored=frozenset(first))
    assert not set(started) & set(first)
    assert measured == set(study.measurements)


@given(ORDERS)
def test_a_missing_structure_hides_no_level_whose_ticket_is_stored(draw: random.Random) -> None:
    study = make_study("prune filters 20% until 60%; rewind lr\ncompare random-init")
    everything, measured = walk(study, plain, draw)
    lost = {level.structure for level in study.levels if draw.random() < 0.5}
    stored = frozenset(set(everything) - lost)
    assert walk(study, plain, draw, stored=stored)[1] == measured
    controls = frozenset(m.step for m in study.measurements if m.contestant == "random-init")
    rest = {m for m in measured if m.contestant != "random-init"}
    assert walk(study, plain, draw, stored=stored - controls, failing=controls)[1] == rest


def test_a_result_lost_while_a_dependent_runs_is_made_again_before_that_starts_again() -> None:
    study = make_study("prune weights 20%; rewind lr")
    done: dict[str, Mapping[str, Any]] = {}
    scheduler = StepScheduler(study, done.get)
    while (key := scheduler.take()) is not None and not study.step(key).parents:
        done[key] = plain(key)
        scheduler.finish(key)
    assert key is not None
    lost, *_ = study.step(key).parents.values()
    del done[lost]
    for _ in range(2):  # for a measurement, or for another step; then for this one
        scheduler.requeue_after_loss(key, [lost])
    assert scheduler.take() == lost
    assert scheduler.take() is None
    done[lost] = plain(lost)
    scheduler.finish(lost)
    assert scheduler.take() == key


def test_nothing_is_wanted_where_all_measurements_are_stored() -> None:
    study = make_study(PLANS[1])
    started, measured = walk(study, plain, random.Random(1), stored=frozenset(m.step for m in study.measurements))
    assert started == [] and measured == set(study.measurements)


@given(ORDERS, st.integers(1, ROUNDS))
def test_until_with_overlap_ends_at_the_first_level_that_reaches_it(draw: random.Random, last: int) -> None:
    study = make_study(
        "seeds 2\narm c { split classes 2; prune weights 30% until 80% except fc; overlap; rewind weights to init }\n"
        "compare c, random-init"
    )
    gone = {level.structure: 0.8 if level.level >= last else 0.1 * level.level for level in study.levels}
    gone |= {level.structure: 0.1 for level in study.levels if level.level > last}  # later levels must not matter
    _, measured = walk(study, lambda key: {"sparsity": gone.get(key, 0.0), "filters": 1.0}, draw)
    assert {m.level for m in measured if m.contestant == "ticket"} == set(range(1, last + 1))
    assert {m.level for m in measured if m.contestant == "random-init"} == set(range(1, last + 1))


@given(ORDERS, st.dictionaries(st.integers(1, 2), st.integers(1, ROUNDS)))
def test_stop_when_ends_each_seed_by_itself(draw: random.Random, ends: dict[int, int]) -> None:
    study = make_study("seeds 2\nprune weights 20% x 5; rewind lr\nstop when accuracy < 50%")
    bad = {level.ticket for level in study.levels if level.level >= ends.get(level.seed, 99)}
    _, measured = walk(study, lambda key: {"accuracy": 0.4 if key in bad else 0.9}, draw)
    for seed in (1, 2):
        levels = {m.level for m in measured if m.seed == seed and m.contestant == "ticket"}
        assert levels == set(range(1, min(ends.get(seed, ROUNDS), ROUNDS) + 1))


@given(ORDERS, st.integers(1, ROUNDS))
def test_until_a_metric_ends_the_rounds_of_that_arm(draw: random.Random, last: int) -> None:
    study = make_study(
        "arm a { prune weights 20% until accuracy < 50%; rewind lr }\narm b { prune filters 20% x 2; rewind lr }\n"
        "compare a, b, random-init levels=last"
    )
    bad = {level.ticket for level in study.levels if level.level >= last or level.arm == "b"}
    _, measured = walk(study, lambda key: {"accuracy": 0.4 if key in bad else 0.9}, draw)
    assert {m.level for m in measured if (m.contestant, m.arm) == ("ticket", "a")} == set(range(1, last + 1))
    assert {m.level for m in measured if (m.contestant, m.arm) == ("random-init", "a")} == {last}
    assert {m.level for m in measured if (m.contestant, m.arm) == ("ticket", "b")} == {1, 2}


@given(ORDERS, st.integers(1, ROUNDS))
def test_controls_of_the_last_level_wait_until_it_is_known(draw: random.Random, last: int) -> None:
    study = make_study("prune weights 20% x 5; rewind lr\ncompare random-init levels=last\nstop when accuracy < 50%")
    bad = {level.ticket for level in study.levels if level.level >= last}
    started, measured = walk(study, lambda key: {"accuracy": 0.4 if key in bad else 0.9}, draw)
    controls = [m for m in measured if m.contestant == "random-init"]
    assert {m.level for m in controls} == {last}
    assert all(m.step in started for m in controls)


def test_a_failure_costs_what_rests_on_it_and_no_more() -> None:
    study = make_study(
        "arm a { prune weights 20% x 2; rewind lr }\narm b { prune weights 40% x 2; rewind lr }\ncompare a, b"
    )
    first = next(level.structure for level in study.levels if level.arm == "a")
    started, measured = walk(study, plain, random.Random(2), failing=frozenset({first}))
    lost = nx.descendants(study.graph, first)
    assert not lost & set(started)
    assert measured == {m for m in study.measurements if m.step not in lost}


def test_the_other_part_is_left_alone_once_one_part_has_failed() -> None:
    study = make_study("arm c { split classes 2; prune weights 30% x 2 except fc; overlap; rewind weights }\ncompare c")
    parts = [
        key for key in study.graph
        if study.step(key).operation == "train" and "part" in study.step(key).args["data"]
    ]  # fmt: skip
    started, measured = walk(study, plain, random.Random(3), failing=frozenset(parts[:1]), jobs=1)
    assert {m.contestant for m in measured} == {"dense"}
    assert not [key for key in started if study.step(key).operation in ("prune", "overlap")]


def test_a_failed_dense_training_leaves_its_rewinding_point_to_itself() -> None:
    study = make_study("prune weights 20% at 1ep\ncompare dense")
    point = next(key for key in study.graph if study.graph.nodes[key].get("prefix_of"))
    leader = study.graph.nodes[point]["prefix_of"]
    started, measured = walk(study, plain, random.Random(4), failing=frozenset({leader}))
    assert point in started
    assert {m.contestant for m in measured} == {"ticket"}


def makespan(study: Study, seconds: Callable[[str], float], jobs: int) -> float:
    """The time at which the last step ends, with a number of workers and the `seconds` of each step."""
    done: dict[str, Mapping[str, Any]] = {}
    scheduler = StepScheduler(study, done.get, seconds)
    now, running = 0.0, list[tuple[float, str]]()
    while scheduler.pending:
        while len(running) < jobs and (key := scheduler.take()) is not None:
            heapq.heappush(running, (now + seconds(key), key))
        now, key = heapq.heappop(running)
        done[key] = plain(key)
        scheduler.finish(key)
    return now


def test_the_longest_chain_of_work_never_waits() -> None:
    short = "".join(f"arm s{n} {{ train 2ep lr=0.{n}; prune weights 20%; rewind lr }}\n" for n in (1, 2, 3))
    study = make_study(short + "arm long { prune weights 20% x 5; rewind lr }\ncompare all")
    length = {"train": lambda step: float(step.args["recipe"]["length"].removesuffix("ep"))}

    def seconds(key: str) -> float:
        step = study.step(key)
        return length.get(step.operation, lambda step: 0.0)(step)

    assert sum(map(seconds, study.graph)) == 36.0
    assert makespan(study, seconds, 1) == 36.0
    assert makespan(study, seconds, 2) == 24.0  # the dense training and five levels in sequence


def test_what_begins_from_a_rewinding_point_counts_for_the_training_that_leaves_it() -> None:
    study = make_study(
        "arm a { train 4ep lr=0.2; prune weights 20% at init }\n"
        "arm b { prune weights 20% at 1ep; rewind weights to 1ep }\ncompare a, b, dense"
    )
    leader = next(node["prefix_of"] for _, node in study.graph.nodes(data=True) if node.get("prefix_of"))
    scheduler = StepScheduler(study, {k: plain(k) for k in study.graph if study.step(k).operation == "init"}.get)
    assert scheduler.take() == leader


@given(ORDERS, st.sampled_from(PLANS))
def test_no_step_is_lost_by_its_place_in_the_queue(draw: random.Random, text: str) -> None:
    study = make_study(text)
    started, measured = walk(study, plain, draw, work=lambda key: draw.random())
    points = {key for key in study.graph if study.graph.nodes[key].get("prefix_of")}
    assert set(started) == set(study.graph) - points
    assert measured == set(study.measurements)


def test_a_step_that_measures_times_starts_while_other_machines_are_busy() -> None:
    study = make_study("prune filters 20%\nreport latency\nseeds 2")
    done: dict[str, Mapping[str, Any]] = {}
    scheduler = StepScheduler(study, done.get)
    alone: list[str] = []
    while scheduler.pending:
        taken = list(iter(lambda: scheduler.take(quiet=False), None))
        quiet = scheduler.take(quiet=True)
        alone += [] if quiet is None else [quiet]
        assert not any(study.step(key).operation == "latency" for key in taken)
        for key in [*taken, *([] if quiet is None else [quiet])]:
            done[key] = plain(key)
            scheduler.finish(key)
        scheduler.pop_measured()
    measured = {key for key in study.graph if study.step(key).operation == "latency"}
    assert measured and measured <= set(alone)
