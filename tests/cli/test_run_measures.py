"""`report` asks for more than accuracy: it is measured where it is asked, kept, and said in every place."""

from __future__ import annotations

import csv
from typing import Any

PLAN = "prune filters 30%; rewind lr\ncompare random-init\nreport accuracy, {}\n"


def figures(bench: Any, contestant: str = "ticket", level: int = 1) -> dict[str, Any]:
    levels = bench.results["arms"][0]["levels"]
    found: dict[str, Any] = levels[level]["contestants"][contestant]["figures"]
    return found


def test_robustness_is_measured_of_every_contestant_and_said_everywhere(bench: Any) -> None:
    bench.write(PLAN.format("robustness"))
    said = bench.run()
    assert said.exit == 0
    assert all(word in said.out for word in ("corrupted", "FGSM", "PGD"))
    assert len(bench.ended("done", "robustness")) == 3
    events = bench.events_of("measure")
    assert {(e.contestant, e.level, e.metric, e.how) for e in events} == {
        ("dense", 0, "robustness", "measured"),
        ("ticket", 1, "robustness", "measured"),
        ("random-init", 1, "robustness", "measured"),
    }
    found = figures(bench)
    ticket = bench.results["arms"][0]["levels"][1]["contestants"]["ticket"]
    assert found["robustness.clean"]["mean"] == ticket["accuracy"]["mean"]
    assert found["robustness"]["how"] == "measured" and 0 < found["robustness"]["mean"] < 1
    rows = list(csv.DictReader(bench.last.results_csv.open()))
    assert {float(row["robustness.blur.3"]) for row in rows} == {
        figures(bench, c, n)["robustness.blur.3"]["mean"] for c, n in (("dense", 0), ("ticket", 1), ("random-init", 1))
    }


def test_what_is_measured_is_kept_and_asking_trains_nothing_anew(bench: Any) -> None:
    bench.write(PLAN.replace("report accuracy, {}\n", ""))
    bench.run()
    assert bench.events_of("measure") == []
    bench.write(PLAN.format("robustness"))
    first = bench.run()
    assert set(bench.begun) == set(bench.ended("done", "robustness"))
    before = bench.results["arms"]
    again = bench.run()
    assert bench.begun == [] and again.out == first.out
    assert bench.results["arms"] == before


def test_a_benchmark_put_into_the_data_folder_is_measured_anew(bench: Any) -> None:
    """Data that are not CIFAR-10 are left alone: the plan's are synthetic."""
    bench.write(PLAN.format("robustness"))
    bench.run()
    assert not any("cifar" in name for name in figures(bench))
