"""A study whose results are stored is answered without torch, which takes longer to load than the answer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from event_files import steps_by_tag

from tickdsl import tensorboard
from tickdsl.cli import running
from tickdsl.errors import TickdslError
from tickdsl.training import device_choice

PLAN = """
prune weights 50% x 2; rewind lr
stop when accuracy < 1%
compare random-init, dense
report accuracy, latency, train-time
"""


def test_a_stored_study_is_run_without_torch(harness: Any) -> None:
    harness.write(PLAN)
    first = harness.run()
    code = "import sys; from tickdsl.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "run", harness.plan, *harness.location_flags, "--jobs", 1, "--plain"]
    again = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "nothing to train" in again.stderr and "loading torch" not in again.stderr
    assert again.stdout == first.out


@pytest.mark.parametrize("training", ["train 1ep batch=32", "train 1ep batch=32 opt=adam lr=0.001"])
def test_a_run_loads_no_compiler(harness: Any, training: str) -> None:
    """torch imports Dynamo for optimisers and for modes that see operators, which takes as long as importing torch."""
    harness.write(training + PLAN, head="plan 1\nmodel small-cnn width=0.5\ndata synthetic size=8 train=64 test=32\n")
    code = "import sys; from tickdsl.cli import main; main(sys.argv[1:]); print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-c", code, "run", harness.plan, *harness.location_flags, "--jobs", 1, "--plain"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines())
    assert "torch" in loaded and not loaded & {"torch._dynamo", "torch._inductor", "scipy.optimize"}


def test_a_stored_study_is_answered_before_its_curves_are_written(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading TensorBoard's writer takes longer than the answer; nothing is missing from the files for that."""
    harness.write(PLAN)
    harness.run()
    order: list[str] = []
    shown, written = running.results_table, tensorboard.TensorBoardWriter
    monkeypatch.setattr(running, "results_table", lambda state: (order.append("results"), shown(state))[1])
    monkeypatch.setattr(tensorboard, "TensorBoardWriter", lambda folder: (order.append("curves"), written(folder))[1])
    harness.run()
    assert order == ["results", "curves"]
    folders = (folder for folder in (harness.folder / "runs").iterdir() if not folder.is_symlink())
    first, again = (steps_by_tag(folder / "tb") for folder in folders)
    assert first and first == again


def test_the_version_is_the_one_that_torch_says() -> None:
    assert device_choice.torch_version() == torch.__version__


def test_torch_is_asked_for_a_device_once_it_is_loaded() -> None:
    assert device_choice.resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(TickdslError, match="unknown device `tpu`"):
        device_choice.resolve_devices("tpu")


@pytest.mark.parametrize(("gpus", "text", "is_cpu"), [
    (False, "auto", True), (False, "cuda", False), (True, "auto", False), (True, "cpu", True), (False, "cpu", True),
])  # fmt: skip
def test_the_cpu_is_known_without_torch_if_no_gpu_can_be_used(
    monkeypatch: pytest.MonkeyPatch, gpus: bool, text: str, is_cpu: bool
) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(device_choice, "_torch_build", lambda: ("2.0", gpus))
    assert device_choice._is_cpu(text) == is_cpu


def test_the_cpu_has_what_is_asked_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_choice, "_is_cpu", lambda text: True)
    (cpu,) = device_choice.resolve_devices("cpu")
    assert (str(cpu), cpu.type, cpu.index) == (str(torch.device("cpu")), "cpu", torch.device("cpu").index)
    assert device_choice.loaded(cpu) == torch.device("cpu")
    assert device_choice.devices_in_words((cpu,)) == "cpu"


@pytest.mark.parametrize(("line", "gpus"), [
    ("cuda: Optional[str] = None", False), ("cuda: Optional[str] = '13.0'", True), ("hip = '6.4'", True),
])  # fmt: skip
def test_a_build_for_gpus_is_told_from_the_file_of_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, line: str, gpus: bool
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2.13.0+x'\ndebug = False\n{line}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch")
    assert device_choice._torch_build.__wrapped__() == ("2.13.0+x", gpus)


def test_curves_that_cannot_be_written_are_a_warning(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps TensorBoard's writer from being loaded: the run goes on."""

    def broken(folder: object) -> None:
        raise TypeError("Descriptors cannot be created directly")

    harness.write(PLAN)
    monkeypatch.setattr(tensorboard, "TensorBoardWriter", broken)
    done = harness.run()
    assert done.exit == 0 and "random-init" in done.out
    assert done.err.count("stopped writing for TensorBoard: Descriptors cannot be created directly") == 1
    assert harness.results["status"] == "ok"


def test_a_run_whose_results_cannot_be_printed_is_shared(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write(PLAN)
    harness.run()
    shared: list[object] = []
    monkeypatch.setattr("tickdsl.records.bucket_runs.share_run", lambda store, paths, warn: shared.append(paths))

    def disk_full(state: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "results_table", disk_full)
    assert harness.run().exit == 2
    assert len(shared) == 1
