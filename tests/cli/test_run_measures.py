"""Metrics requested by `report`: measured on request, stored, and shown everywhere."""

from __future__ import annotations

import csv
from typing import Any

import pytest
import torch

from tickdsl.engine.steps import result_files, surroundings
from tickdsl.metrics import energy_counters

PLAN = "prune filters 30%; rewind lr\ncompare random-init\nreport accuracy, {}\n"


def figures(harness: Any, contestant: str = "ticket", level: int = 1) -> dict[str, Any]:
    levels = harness.results["arms"][0]["levels"]
    found: dict[str, Any] = levels[level]["contestants"][contestant]["figures"]
    return found


def test_robustness_is_measured_of_every_contestant_and_said_everywhere(harness: Any) -> None:
    harness.write(PLAN.format("robustness"))
    result = harness.run()
    assert result.exit == 0
    assert all(word in result.out for word in ("corrupted", "FGSM", "PGD"))
    assert len(harness.steps_ended("done", "robustness")) == 3
    events = harness.events_of("measure")
    assert {(e.contestant, e.level, e.metric, e.how) for e in events} == {
        ("dense", 0, "robustness", "measured"),
        ("ticket", 1, "robustness", "measured"),
        ("random-init", 1, "robustness", "measured"),
    }
    found = figures(harness)
    ticket = harness.results["arms"][0]["levels"][1]["contestants"]["ticket"]
    assert found["robustness.clean"]["mean"] == ticket["accuracy"]["mean"]
    assert found["robustness"]["how"] == "measured" and 0 < found["robustness"]["mean"] < 1
    rows = list(csv.DictReader(harness.last_run.results_csv.open()))
    assert {float(row["robustness.blur.3"]) for row in rows} == {
        figures(harness, c, n)["robustness.blur.3"]["mean"]
        for c, n in (("dense", 0), ("ticket", 1), ("random-init", 1))
    }


def test_what_is_measured_is_kept_and_asking_trains_nothing_anew(harness: Any) -> None:
    harness.write(PLAN.replace("report accuracy, {}\n", ""))
    harness.run()
    assert harness.events_of("measure") == []
    harness.write(PLAN.format("robustness"))
    first = harness.run()
    assert set(harness.started_steps) == set(harness.steps_ended("done", "robustness"))
    before = harness.results["arms"]
    again = harness.run()
    assert harness.started_steps == [] and again.out == first.out
    assert harness.results["arms"] == before


def test_a_benchmark_put_into_the_data_folder_is_measured_anew(harness: Any) -> None:
    """The plan has synthetic data, which benchmarks for CIFAR-10 do not apply to."""
    harness.write(PLAN.format("robustness"))
    harness.run()
    assert not any("cifar" in name for name in figures(harness))


COSTS = "train-time, latency, memory, energy, carbon, early-stop, barrier watts=45 intensity=100"
MAIN = ("train-time", "latency", "memory", "energy", "carbon", "early-stop", "barrier")


def test_costs_are_labelled_in_every_place(harness: Any) -> None:
    harness.write(PLAN.format(COSTS))
    result = harness.run()
    assert result.exit == 0
    words = ("latency,", "memory,", "energy", "CO2", "early stop,", "barrier,", "time", "random-init")
    assert all(word in result.out for word in words)
    assert "~ estimated: energy at 45 W, CO2 at 100 g/kWh" in " ".join(result.out.split())
    events = harness.events_of("measure")
    estimated = {"energy", "carbon"} if not counted() else {"carbon"}
    assert {event.metric for event in events if event.how == "estimated"} == estimated
    assert {(e.contestant, e.metric) for e in events} == {
        (contestant, metric) for contestant in ("dense", "ticket", "random-init") for metric in MAIN
    }
    found = figures(harness)
    assert {found[name]["how"] for name in MAIN if name not in estimated} == {"measured"}
    assert found["memory"]["mean"] == found["memory.parameters"]["mean"] + found["memory.activations"]["mean"]
    row = next(row for row in csv.DictReader(harness.last_run.results_csv.open()) if row["contestant"] == "ticket")
    assert float(row["memory.training"]) == found["memory.training"]["mean"]
    assert (row["latency.how"], row["carbon.how"]) == ("measured", "estimated")
    assert row["energy.how"] == ("estimated" if "energy" in estimated else "measured")
    page = harness.call("report", "--format", "md", harness.last_run.folder).out
    assert "Other metrics" in page and "memory, inference" in page and "Estimated (~): carbon" in page


def counted() -> bool:
    return energy_counters.open_counter(torch.device("cpu")) is not None


def test_what_trainings_tell_is_told_without_a_step(harness: Any) -> None:
    harness.write(PLAN.replace("report accuracy, {}\n", ""))
    harness.run()
    harness.write(PLAN.format("train-time, energy, carbon, early-stop"))
    harness.run()
    assert harness.started_steps == [] and len(harness.events_of("measure")) == 3 * 4
    ticket = harness.results["arms"][0]["levels"][1]["contestants"]["ticket"]
    assert ticket["figures"]["train-time"]["mean"] == ticket["seconds"]
    assert ticket["figures"]["early-stop"]["mean"] in (1, 2)


def test_other_watts_do_not_ask_for_work(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy_counters, "open_counter", lambda device: None)
    found = []
    for watts in (20, 40):
        harness.write(PLAN.format(f"energy, carbon watts={watts}"))
        harness.run()
        found.append(figures(harness))
    assert harness.started_steps == []
    assert found[1]["energy"]["mean"] == pytest.approx(2 * found[0]["energy"]["mean"])
    assert found[1]["carbon"]["mean"] == pytest.approx(found[1]["energy"]["mean"] / 3.6e6 * 480)


def test_a_counter_is_read_while_it_trains(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Steady:
        source = "rapl"

        def read(self) -> float:
            return 7.0

    monkeypatch.setattr(energy_counters, "open_counter", lambda device: Steady())
    harness.write(PLAN.format("energy watts=1"))
    result = harness.run()
    found = figures(harness)["energy"]
    assert (found["mean"], found["how"]) == (7.0, "measured")
    assert "~" not in result.out


def test_a_barrier_lies_between_the_network_and_its_twin(harness: Any) -> None:
    harness.write("prune filters 30%; rewind weights to 1ep\nreport accuracy, barrier\n")
    harness.run()
    for contestant, level in (("dense", 0), ("ticket", 1)):
        found = figures(harness, contestant, level)
        along = [found[f"barrier.error.{number:02d}"]["mean"] for number in range(1, 31)]
        assert found["barrier"]["mean"] == pytest.approx(max(along) - (along[0] + along[-1]) / 2)
        assert len(set(along)) > 1
        assert found["barrier.interpolated"]["mean"] >= 0
    bits = harness.weight_bytes()
    harness.run("--fresh")
    assert harness.weight_bytes() == bits and figures(harness) == found


@pytest.mark.slow
def test_times_of_another_machine_are_measured_anew(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write(PLAN.format("latency, memory, robustness"))
    harness.run()
    monkeypatch.setattr(surroundings, "host_name", lambda: "elsewhere")
    harness.run()
    kinds = {info.id: info.operation for event in harness.events_of("plan.resolved") for info in event.steps}
    assert sorted(kinds[step] for step in harness.started_steps) == ["latency", "latency", "memory", "memory"]


def test_figures_of_several_machines_are_said_to_be_such(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write(PLAN.replace("compare random-init\nreport accuracy, {}\n", ""))
    harness.run()
    monkeypatch.setattr(result_files, "host_name", lambda: "elsewhere")
    harness.write(PLAN.format("train-time, early-stop"))
    result = harness.run()
    assert "train-time: measured on 2 machines (" in result.out and "elsewhere" in result.out
    assert any("measured on 2 machines" in note for note in harness.results["notes"])
