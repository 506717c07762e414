"""Energy, carbon and time of training: measured if there is a counter, otherwise estimated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from tickdsl.metrics import energy_counters
from tickdsl.metrics.training_metrics import TRAINING_METRICS, training_figures
from tickdsl.plan.model import MeasurementOptions

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
RANGE = 262_143_328_850


def domain(root: Path, name: str, kind: str, count: int) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{count}\n")
    return folder


def test_rapl_sums_packages_only(tmp_path: Path) -> None:
    folders = {
        name: domain(tmp_path, name, kind, 1_000_000)
        for name, kind in {
            "intel-rapl:0": "package-0",
            "intel-rapl:0:0": "core",
            "intel-rapl:1": "package-1",
            "intel-rapl:2": "psys",
        }.items()
    }
    rapl = energy_counters.RaplCounter(tmp_path)
    assert rapl.read() == 0
    for folder in folders.values():
        (folder / "energy_uj").write_text("3500000\n")
    assert rapl.read() == pytest.approx(5.0)
    assert rapl.read() == 0


def test_rapl_counters_wrap_around(tmp_path: Path) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    rapl = energy_counters.RaplCounter(tmp_path)
    (folder / "energy_uj").write_text("2000000\n")
    assert rapl.read() == pytest.approx(3.0)


@pytest.mark.parametrize("content", [None, "", "no number"])
def test_without_a_readable_counter_there_is_none(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (domain(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj").write_text(content)
    monkeypatch.setattr(energy_counters.RaplCounter, "__init__", lambda self: original(self, tmp_path))
    assert energy_counters.open_counter(CPU) is None


original = energy_counters.RaplCounter.__init__


def test_nvml_reads_the_training_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([5_000, 12_500])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab-c"))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: {"GPU-ab-c": "handle"}[uuid])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda handle: next(counts))
    result = energy_counters.open_counter(CUDA)
    assert result is not None and result.source == "nvml" and result.read() == 7.5


def test_a_gpu_without_energy_counter_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlInit", refused)
    assert energy_counters.open_counter(CUDA) is None


def test_counters_that_fail_later_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = domain(tmp_path, "intel-rapl:0", "package-0", 5)
    rapl = energy_counters.RaplCounter(tmp_path)
    (folder / "energy_uj").write_text("")
    assert rapl.read() is None
    (folder / "energy_uj").unlink()
    assert rapl.read() is None

    def lost(handle: object) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lost)
    nvml = object.__new__(energy_counters.NvmlCounter)
    nvml._handle, nvml._last = None, 0
    assert nvml.read() is None


# -- figures


def record(device: str = "cpu", **metrics: Any) -> dict[str, Any]:
    return {"metrics": {"train_time": 100.0, "steps": 400, **metrics}, "made": {"device": device, "host": "here"}}


def energy_reading(joules: float, seconds: float = 100.0, jobs: int = 1) -> dict[str, Any]:
    return {"energy": {"joules": joules, "seconds": seconds, "source": "rapl", "jobs": jobs}}


@pytest.mark.parametrize(
    ("result", "joules", "how"),
    [
        (record(**energy_reading(900.0)), 900.0, "measured"),
        (record(**energy_reading(900.0, jobs=3)), 300.0, "estimated"),
        (record(**energy_reading(450.0, seconds=50.0)), 900.0, "estimated"),
        (record(), 6500.0, "estimated"),
        (record("cuda:1"), 30_000.0, "estimated"),
    ],
    ids=["alone", "among three", "interrupted", "no counter", "no counter on a GPU"],
)
def test_energy_is_measured_or_estimated(result: dict[str, Any], joules: float, how: str) -> None:
    computed = training_figures("energy", result, MeasurementOptions())
    assert computed == ({"energy": pytest.approx(joules), "energy.watts": pytest.approx(joules / 100)}, how)


def test_given_watts_are_used_only_without_a_counter() -> None:
    stated = MeasurementOptions(watts=20.0)
    assert training_figures("energy", record(), stated) == ({"energy": 2000.0, "energy.watts": 20.0}, "estimated")
    assert training_figures("energy", record(**energy_reading(900.0)), stated) == training_figures(
        "energy", record(**energy_reading(900.0)), MeasurementOptions()
    )


def test_carbon_is_energy_by_intensity_and_never_measured() -> None:
    result = training_figures("carbon", record(**energy_reading(3.6e6)), MeasurementOptions(intensity=250.0))
    assert result == ({"carbon": 250.0, "carbon.intensity": 250.0, "carbon.energy": 3.6e6}, "estimated")


def test_time_of_a_step() -> None:
    assert training_figures("train-time", record(), MeasurementOptions()) == (
        {"train-time": 100.0, "train-time.step": 0.25},
        "measured",
    )


def test_early_stop_is_the_first_epoch_of_the_least_test_loss() -> None:
    epochs = [[3, 1.0, 0.9, 0.5, 0.1], [4, 0.8, 0.4, 0.7, 0.1], [5, 0.1, 0.4, 0.8, 0.1], [6, 0.0, None, 0.9, 0.1]]
    figures = {"early-stop": 4, "early-stop.loss": 0.4, "early-stop.accuracy": 0.7}
    assert training_figures("early-stop", record(epochs=epochs), MeasurementOptions()) == (figures, "measured")
    assert training_figures("early-stop", record(epochs=epochs[-1:]), MeasurementOptions()) is None


def test_training_metrics_are_in_the_vocabulary() -> None:
    from tickdsl.lang.vocabulary import METRICS

    assert set(TRAINING_METRICS) < set(METRICS)
