"""`tickdsl run` from the text of a plan to its results: output, files, and what is not run again."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest

from tickdsl.checks.plan_selection import with_seeds
from tickdsl.plan.model import Plan
from tickdsl.records.events import Metric, PlanResolved, RunEnd, RunStart
from tickdsl.results.device_time import hours_in_words

TWO_ROUNDS = "prune filters 30% x 2; rewind lr\ncompare random-init\n"


def test_a_run_prints_a_table_and_leaves_its_results(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    result = harness.run()
    assert result.exit == 0
    assert "dense" in result.out and "verdict" in result.out
    assert str(harness.last_run.folder) in result.err
    assert [arm["id"] for arm in harness.results["arms"]] == ["ticket"]
    rows = list(csv.DictReader(harness.last_run.results_csv.open()))
    assert {(row["contestant"], row["level"]) for row in rows} == {
        ("dense", "0"), ("ticket", "1"), ("ticket", "2"), ("random-init", "1"), ("random-init", "2"),
    }  # fmt: skip


def test_events_tell_the_whole_run_once(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    harness.run()
    events = [record.event for record in harness.events]
    assert [record.seq for record in harness.events] == list(range(len(events)))
    assert isinstance(events[0], RunStart) and isinstance(events[1], PlanResolved)
    assert isinstance(events[-1], RunEnd) and (events[-1].status, events[-1].exit) == ("ok", 0)
    ended = harness.steps_ended("done")
    assert sorted(ended) == sorted(info.id for info in events[1].steps)
    assert sorted(harness.started_steps) == sorted(ended)
    measured = [(m.contestant, m.level) for m in events if isinstance(m, Metric)]
    assert len(measured) == len(set(measured)) == len(events[1].measurements)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_second_run_trains_nothing_and_says_the_same(harness: Any, jobs: int) -> None:
    harness.write(TWO_ROUNDS)
    first = harness.run("--jobs", jobs)
    before = harness.results
    second = harness.run("--jobs", jobs)
    assert harness.started_steps == []
    assert harness.steps_ended("skipped") == []
    assert second.out == first.out
    assert harness.results["arms"] == before["arms"]


def test_jobs_change_no_bit(harness: Any) -> None:
    harness.write(TWO_ROUNDS + "seeds 2\n")
    harness.run("--jobs", 2)
    with_two = harness.weight_bytes()
    harness.run("--store", harness.folder / "other")
    assert harness.weight_bytes(harness.folder / "other") == with_two


def test_an_edited_plan_runs_only_what_is_new(harness: Any) -> None:
    harness.write("prune weights 30% x 2; rewind weights\n")
    harness.run()
    harness.write("prune weights 30% x 3; rewind weights\n")
    harness.run()
    assert len(harness.steps_ended("done", "train")) == 1
    assert len(harness.steps_ended("done", "prune")) == 1
    harness.write("prune weights 30% x 3; rewind weights\ncompare random-structure levels=last\n")
    harness.run()
    assert len(harness.steps_ended("done", "train")) == 1
    assert harness.steps_ended("done", "prune") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        "# a word\narm a { prune weights 30% x 2; rewind weights }   # another\n",
        "arm renamed { prune weights global 30% x 2 by magnitude; rewind weights to init }\n",
        "let n = 2\narm a { cycle $n { prune weights 30%; rewind weights } }\n",
        "arm a { prune weights 30% x 2; rewind weights }\nreport accuracy, params\n",
    ],
)
def test_another_spelling_runs_nothing(harness: Any, other: str) -> None:
    harness.write("arm a { prune weights 30% x 2; rewind weights }\n")
    harness.run()
    harness.write(other)
    result = harness.run()
    assert result.exit == 0
    assert harness.started_steps == []


@pytest.mark.slow
def test_fresh_does_it_all_again_with_the_same_bits(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    harness.run()
    before, steps = harness.weight_bytes(), harness.started_steps
    result = harness.run("--fresh")
    assert result.exit == 0
    assert sorted(harness.started_steps) == sorted(steps)
    assert harness.weight_bytes() == before


@pytest.mark.slow
def test_a_fresh_run_that_was_stopped_is_continued(harness: Any) -> None:
    head = "model small-cnn width=0.5\ndata synthetic size=8 train=256 test=64\n"
    harness.write("train 6ep lr=0.1 batch=32\nprune filters 30%; rewind weights\n", head=head)
    harness.run()
    before, all_steps = harness.weight_bytes(), harness.started_steps

    def trained_half() -> bool:
        return any(event.epoch >= 3 for event in harness.events_of("step.progress"))

    with harness.stopping(trained_half, poll_seconds=0.0):
        assert harness.run("--fresh", "--fresh").exit == 4
    assert harness.weight_bytes() == before, "stopped, but what was stored is gone"
    stopped = harness.steps_ended("done")
    assert not harness.steps_ended("stored")
    (start,) = harness.events_of("run.start")
    assert start.argv.count("--fresh") == 1, "a second --fresh would start over"

    result = harness.run("--fresh")
    assert result.exit == 0
    assert "continuing a --fresh run" in result.err
    assert sorted([*stopped, *harness.started_steps]) == sorted(all_steps)
    assert next(event.epoch for event in harness.events_of("step.progress")) > 3
    assert harness.weight_bytes() == before
    harness.run("--fresh")
    assert sorted(harness.started_steps) == sorted(all_steps), "the fresh run before was complete"


def test_only_runs_the_arms_named(harness: Any) -> None:
    harness.write("arm a { prune weights 30%; rewind lr }\narm b { prune weights 40%; rewind lr }\ncompare a, b\n")
    harness.run("--only", "b")
    assert [arm["id"] for arm in harness.results["arms"]] == ["b"]
    wrong = harness.run("--only", "c")
    assert wrong.exit == 2
    assert "--only c" in wrong.err and "a or b" in wrong.err


def test_set_replaces_a_let(harness: Any) -> None:
    harness.write("let n = 1\nprune weights 30% x $n; rewind lr\n")
    harness.run("--set", "n=3")
    assert len(harness.steps_ended("done", "prune")) == 3
    wrong = harness.run("--set", "m=3")
    assert wrong.exit in (1, 2)
    assert "m" in wrong.err and "Traceback" not in wrong.err


def test_json_prints_the_results_and_nothing_else(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    result = harness.run("--json")
    assert json.loads(result.out) == harness.results


def test_dry_run_shows_the_steps_and_makes_nothing(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    result = harness.run("--dry-run")
    assert result.exit == 0
    assert "0 of" in result.out and "epochs left to train" in result.out
    assert not harness.store.exists() and not (harness.folder / "runs").exists()


def test_plan_says_what_is_stored(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    steps = json.loads(harness.call("plan", harness.plan, "--json", "--store", harness.store).out)["steps"]
    assert {step["stored"] for step in steps} == {False}
    harness.run()
    result = harness.call("plan", harness.plan, "--steps", "--store", harness.store)
    assert f"{len(steps)} of {len(steps)} results stored; nothing to train" in result.out
    for step in steps:
        assert step["key"][:8] in result.out


def test_plan_estimates_the_time_only_from_what_this_machine_did(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    here = ("plan", harness.plan, "--store", harness.store)
    assert "time not estimated: no training of small-cnn on synthetic" in harness.call(*here).out
    assert json.loads(harness.call(*here, "--json").out)["time"] is None
    harness.run()
    took = sum(event.seconds for event in harness.events_of("step.end"))
    harness.write(TWO_ROUNDS + "seeds [5, 6, 7]\n")
    time = json.loads(harness.call(*here, "--json").out)["time"]
    assert time["low"] <= time["seconds"] <= time["high"]
    assert 0.1 * took < time["seconds"] * time["jobs"] < 10 * 3 * took
    assert time["samples"] == 5
    assert time["device_hours"] * 3600 == pytest.approx(time["seconds"] * time["jobs"])  # a worker on CPUs is a device
    printed = harness.call(*here).out
    assert f"from {time['samples']} earlier trainings): {hours_in_words(time['device_hours'])} device hours" in printed
    harness.run()
    assert 0.1 * time["device_hours"] < harness.results["device_hours"]["used"] < 10 * time["device_hours"]


def test_why_names_what_changed(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    harness.run()
    harness.write(TWO_ROUNDS, head=harness.plan.read_text().split("prune")[0].replace("lr=0.1", "lr=0.2"))
    steps = json.loads(harness.call("plan", harness.plan, "--json", "--store", harness.store).out)["steps"]
    dense = next(step["key"] for step in steps if step["operation"] == "train" and "structure" not in step["parents"])
    result = harness.call("plan", harness.plan, "--why", dense[:10], "--store", harness.store)
    assert result.exit == 0
    assert "args.recipe.lr: (default) -> 0.2" in result.out
    assert harness.call("plan", harness.plan, "--why", "zzzz", "--store", harness.store).exit == 2


def test_results_of_a_gpu_that_may_differ_each_time_are_named(harness: Any) -> None:
    harness.write("prune weights 30%; rewind lr\n")
    assert harness.run("--deterministic").exit == 0
    results = list((harness.store).glob("results/*/*/result.json"))
    assert all(json.loads(path.read_text())["made"]["deterministic"] for path in results)
    again = harness.run("--deterministic")
    assert "without --deterministic" not in again.err
    for path in results[:2]:
        record = json.loads(path.read_text())
        made = {**record["made"], "device": "cuda:0"}
        del made["deterministic"]
        del record["sha256"]  # as in a record of an earlier version
        path.write_text(json.dumps({**record, "made": made}))
    again = harness.run("--deterministic")
    assert again.exit == 0 and "2 stored results of a GPU were made without --deterministic" in again.err
    assert harness.started_steps == []


def test_what_is_stacked_depends_on_times(harness: Any) -> None:
    harness.write(TWO_ROUNDS)
    result = harness.run("--deterministic", "--stack", 4)
    assert result.exit == 2 and "--stack cannot be combined" in result.err


@pytest.mark.slow
def test_more_seeds_extend_a_finished_study(harness: Any) -> None:
    harness.write(TWO_ROUNDS + "seeds [4]\n")
    first = harness.run()
    assert "[TD505]" in first.err
    before = harness.results
    here = ("plan", harness.plan, "--store", harness.store)
    preview = harness.call(*here, "--seeds", 3)
    stored = len(harness.events_of("step.end"))
    assert "seeds 4, 1, 2\n" in preview.out and f"\n{stored} of {3 * stored} results stored" in preview.out
    assert "seeds would decide" not in preview.out
    result = harness.run("--seeds", 3)
    assert "[TD505]" not in result.err
    assert harness.results["seeds"] == [4, 1, 2]
    assert sum(event.status == "stored" for event in harness.events_of("step.end")) == stored
    for ours, theirs in zip(harness.results["arms"][0]["levels"], before["arms"][0]["levels"], strict=True):
        for name, contestant in ours["contestants"].items():
            assert contestant["seeds"][0] == theirs["contestants"][name]["seeds"][0]
            assert contestant["accuracy"]["n"] == 3
    ticket = harness.results["arms"][0]["levels"][1]["contestants"]["ticket"]
    assert ticket["verdict"] is not None and ticket["no_verdict"] is None
    assert "would decide a difference of 1 point in 4 of 5 cases" in harness.call(*here, "--seeds", 3).out


def test_fewer_seeds_are_the_first_of_the_plan() -> None:
    plan = Plan(name="p", path="p", arms=(), seeds=(7, 2, 5))
    assert [with_seeds(plan, n).seeds for n in (None, 2, 3, 5)] == [(7, 2, 5), (7, 2), (7, 2, 5), (7, 2, 5, 1, 3)]


@pytest.mark.slow
def test_a_network_that_diverged_gets_a_warning_and_no_verdict(harness: Any) -> None:
    """At this rate the loss stays finite, and the running variance does not."""
    harness.write(
        "seeds 3\nprune weights 50%; rewind weights to 1ep\n",
        head="model small-cnn on digits\ntrain 2ep lr=1000 batch=64\n",
    )
    result = harness.run()
    assert result.exit == 0
    assert "running_var` of ticket, dense, seed 1): no verdict" in " ".join(result.out.split())
    assert "WARNING: weights or statistics are not finite" in result.err
    (arm,) = harness.results["arms"]
    assert {c["verdict"] for level in arm["levels"] for c in level["contestants"].values()} == {None}
    assert len(harness.results["warnings"]) == 1
