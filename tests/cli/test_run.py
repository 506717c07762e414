"""`tickdsl run` from a plan's text to its results: what is said, what is written, what is done only once."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from tickdsl.records.events import Metric, PlanResolved, RunEnd, RunStart

TWO_ROUNDS = "prune filters 30% x 2; rewind lr\ncompare random-init\n"


def test_a_run_prints_a_table_and_leaves_its_results(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    said = bench.run()
    assert said.exit == 0
    assert "dense" in said.out and "verdict" in said.out
    assert str(bench.last.folder) in said.err
    assert [arm["id"] for arm in bench.results["arms"]] == ["ticket"]
    rows = list(csv.DictReader(bench.last.results_csv.open()))
    assert {(row["contestant"], row["level"]) for row in rows} == {
        ("dense", "0"), ("ticket", "1"), ("ticket", "2"), ("random-init", "1"), ("random-init", "2"),
    }  # fmt: skip


def test_events_tell_the_whole_run_once(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    bench.run()
    events = [record.event for record in bench.events]
    assert [record.seq for record in bench.events] == list(range(len(events)))
    assert isinstance(events[0], RunStart) and isinstance(events[1], PlanResolved)
    assert isinstance(events[-1], RunEnd) and (events[-1].status, events[-1].exit) == ("ok", 0)
    ended = bench.ended("done")
    assert sorted(ended) == sorted(info.id for info in events[1].steps)
    assert sorted(bench.begun) == sorted(ended)
    measured = [(m.contestant, m.level) for m in events if isinstance(m, Metric)]
    assert len(measured) == len(set(measured)) == len(events[1].measurements)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_second_run_trains_nothing_and_says_the_same(bench: Any, jobs: int) -> None:
    bench.write(TWO_ROUNDS)
    first = bench.run("--jobs", jobs)
    before = bench.results
    second = bench.run("--jobs", jobs)
    assert bench.begun == []
    assert bench.ended("skipped") == []
    assert second.out == first.out
    assert bench.results["arms"] == before["arms"]


def test_jobs_change_no_bit(bench: Any) -> None:
    bench.write(TWO_ROUNDS + "seeds 2\n")
    bench.run("--jobs", 2)
    with_two = bench.bits()
    bench.run("--store", bench.folder / "other")
    assert bench.bits(bench.folder / "other") == with_two


def test_an_edited_plan_runs_only_what_is_new(bench: Any) -> None:
    bench.write("prune weights 30% x 2; rewind weights\n")
    bench.run()
    bench.write("prune weights 30% x 3; rewind weights\n")
    bench.run()
    assert len(bench.ended("done", "train")) == 1
    assert len(bench.ended("done", "prune")) == 1
    bench.write("prune weights 30% x 3; rewind weights\ncompare random-structure levels=last\n")
    bench.run()
    assert len(bench.ended("done", "train")) == 1
    assert bench.ended("done", "prune") == []


@pytest.mark.parametrize(
    "other",
    [
        "# a word\narm a { prune weights 30% x 2; rewind weights }   # another\n",
        "arm renamed { prune weights global 30% x 2 by magnitude; rewind weights to init }\n",
        "let n = 2\narm a { cycle $n { prune weights 30%; rewind weights } }\n",
        "arm a { prune weights 30% x 2; rewind weights }\nreport accuracy, params\n",
    ],
)
def test_another_spelling_runs_nothing(bench: Any, other: str) -> None:
    bench.write("arm a { prune weights 30% x 2; rewind weights }\n")
    bench.run()
    bench.write(other)
    said = bench.run()
    assert said.exit == 0
    assert bench.begun == []


def test_fresh_does_it_all_again_with_the_same_bits(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    bench.run()
    before, steps = bench.bits(), bench.begun
    said = bench.run("--fresh")
    assert said.exit == 0
    assert sorted(bench.begun) == sorted(steps)
    assert bench.bits() == before


def test_only_runs_the_arms_named(bench: Any) -> None:
    bench.write("arm a { prune weights 30%; rewind lr }\narm b { prune weights 40%; rewind lr }\ncompare a, b\n")
    bench.run("--only", "b")
    assert [arm["id"] for arm in bench.results["arms"]] == ["b"]
    wrong = bench.run("--only", "c")
    assert wrong.exit == 2
    assert "--only c" in wrong.err and "a or b" in wrong.err


def test_set_replaces_a_let(bench: Any) -> None:
    bench.write("let n = 1\nprune weights 30% x $n; rewind lr\n")
    bench.run("--set", "n=3")
    assert len(bench.ended("done", "prune")) == 3
    wrong = bench.run("--set", "m=3")
    assert wrong.exit in (1, 2)
    assert "m" in wrong.err and "Traceback" not in wrong.err


def test_json_prints_the_results_and_nothing_else(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    said = bench.run("--json")
    assert json.loads(said.out) == bench.results


def test_dry_run_shows_the_steps_and_makes_nothing(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    said = bench.run("--dry-run")
    assert said.exit == 0
    assert "0 of" in said.out and "epochs are still to train" in said.out
    assert not bench.store.exists() and not (bench.folder / "runs").exists()


def test_plan_says_what_is_stored(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    steps = json.loads(bench.call("plan", bench.plan, "--json", "--store", bench.store).out)["steps"]
    assert {step["stored"] for step in steps} == {False}
    bench.run()
    said = bench.call("plan", bench.plan, "--steps", "--store", bench.store)
    assert f"{len(steps)} of {len(steps)} results are stored; 0 epochs are still to train" in said.out
    for step in steps:
        assert step["key"][:8] in said.out


def test_plan_estimates_the_time_only_from_what_this_machine_did(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    here = ("plan", bench.plan, "--store", bench.store)
    assert "no estimate of the time: no training of small-cnn on synthetic" in bench.call(*here).out
    assert json.loads(bench.call(*here, "--json").out)["time"] is None
    bench.run()
    took = sum(event.seconds for event in bench.events_of("step.end"))
    bench.write(TWO_ROUNDS + "seeds [5, 6, 7]\n")
    time = json.loads(bench.call(*here, "--json").out)["time"]
    assert time["low"] <= time["seconds"] <= time["high"]
    assert 0.1 * took < time["seconds"] * time["jobs"] < 10 * 3 * took
    assert time["samples"] == 5
    assert f"from {time['samples']} earlier trainings" in bench.call(*here).out


def test_why_names_what_changed(bench: Any) -> None:
    bench.write(TWO_ROUNDS)
    bench.run()
    bench.write(TWO_ROUNDS, head=bench.plan.read_text().split("prune")[0].replace("lr=0.1", "lr=0.2"))
    steps = json.loads(bench.call("plan", bench.plan, "--json", "--store", bench.store).out)["steps"]
    dense = next(step["key"] for step in steps if step["operation"] == "train" and "structure" not in step["parents"])
    said = bench.call("plan", bench.plan, "--why", dense[:10], "--store", bench.store)
    assert said.exit == 0
    assert "args.recipe.lr: (default) -> 0.2" in said.out
    assert bench.call("plan", bench.plan, "--why", "zzzz", "--store", bench.store).exit == 2
