"""Prunes to a share of the latency, with layers that are really measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from step_runner import StepRunner, step_runner
from torch import Tensor, nn

from tickdsl.engine.machine import layer_latencies
from tickdsl.records.process import host_name

PLAN = "prune filters to 15% of latency; rewind lr\n"


def prune_step(found: StepRunner) -> str:
    return found.levels("ticket")[0].structure


def test_a_stored_table_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the finished network of the second prune is measured then."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = step_runner(tmp_path, PLAN)
    metrics = found.metrics(prune_step(found))
    assert 0 < metrics["latency_predicted"] <= 0.85 * metrics["latency_dense"] * (1 + 1e-6)
    assert metrics["latency_measured"] > 0 and metrics["latency_host"] == host_name()
    assert 0 < metrics["filters"] < 1
    calls: list[nn.Module] = []

    def time_on(*_: object) -> layer_latencies.Timer:
        def seconds(module: nn.Module, inputs: Tensor) -> float:
            calls.append(module)
            return 1.0

        return seconds

    monkeypatch.setattr("tickdsl.engine.steps.latency_targets.time_on", time_on)
    again = step_runner(tmp_path, PLAN.replace("latency;", "latency by l1;  # ok TD411\n"))
    second = again.metrics(prune_step(again))
    assert len(calls) == 1 and second["latency_measured"] == 1.0
    assert second["latency_dense"] == metrics["latency_dense"]
    # A prune that is stored stays, whatever is measured later.
    assert found.metrics(prune_step(found)) == metrics and len(calls) == 1


def test_rounds_and_units_of_a_transformer_reach_their_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    head = "model vit patch=4 dim=32 layers=1\ndata digits samples=64\ntrain 1ep lr=0.01 batch=64\n"
    found = step_runner(tmp_path, "prune neurons to 4% of latency x 2; rewind lr\n", head=head)
    first, second = (found.metrics(level.structure) for level in found.levels("ticket"))
    assert second["latency_predicted"] < first["latency_predicted"] < first["latency_dense"]
    assert second["latency_predicted"] <= 0.96 * second["latency_dense"] * (1 + 1e-6)
    assert first["latency_dense"] == second["latency_dense"]


def test_the_threads_of_torch_are_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    layer_latencies.time_on(torch.device("cpu"))(nn.Linear(4, 4), torch.zeros(1, 4))
    assert torch.get_num_threads() == before
