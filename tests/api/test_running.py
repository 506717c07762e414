"""`tickdsl.run` in this process: results, errors, and what it leaves alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from live_runs import weight_bytes

import tickdsl
from tickdsl.cli import main
from tickdsl.engine.scheduler.exit_codes import INTERRUPTED, STOPPED
from tickdsl.engine.scheduler.interpreter import Interpreter

HEAD = "model small-cnn width=0.5\ndata synthetic size=8 train=64 test=32\n"
PLAN = HEAD + "train 1ep lr=0.1 batch=32\nseeds 1\nprune filters 30%; rewind weights to init\n"
DIVERGES = (
    "model lenet-300-100 width=0.1\ndata synthetic size=8 train=128 test=64\n"
    "arm wild { train 1ep lr=1e30; prune weights 30%; rewind lr }\n"
    "arm tame { train 1ep lr=0.1; prune weights 30%; rewind lr }\ncompare wild, tame\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(plan: Any, **options: Any) -> tickdsl.Results:
    return tickdsl.run(plan, **{"jobs": 1, "device": "cpu", "tensorboard": False, "progress": False, **options})


def test_a_path_and_its_text_are_the_same_study(folder: Path) -> None:
    path = folder / "study.plan"
    path.write_text(PLAN)
    first = run(path)
    again = run(PLAN)
    assert (first.status, again.status) == ("ok", "ok")
    assert (first.name.partition("-")[0], again.name.partition("-")[0]) == ("study", "plan")
    assert first.frame().equals(again.frame())
    assert again.plan == PLAN
    events = [json.loads(line) for line in (again.folder / "events.jsonl").read_text().splitlines()]
    assert not [event for event in events if event["type"] == "step.start"], "everything was stored"
    argv = next(event["argv"] for event in events if event["type"] == "run.start")
    assert argv[:2] == ["tickdsl", "run"] and Path(argv[2]).read_text() == PLAN
    assert main([*argv[1:], "--plain", "--no-tensorboard", "--jobs", "1"]) == 0
    assert len(list((folder / "runs").glob("plan-*"))) == 2


def test_nothing_is_printed_without_progress(capfd: pytest.CaptureFixture[str]) -> None:
    run(PLAN)
    assert capfd.readouterr() == ("", "")


def test_progress_is_lines_without_terminal_tricks(capfd: pytest.CaptureFixture[str]) -> None:
    run(PLAN, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "note[" in err and "finished after" in err
    assert "\r" not in err and "\x1b" not in err


def test_the_options_are_those_of_the_command_line(folder: Path) -> None:
    text = HEAD + (
        "let rate = 30%\nsweep size in [1, 2]\nseeds 1\n"
        "arm a { train 1ep lr=0.1 batch=32; prune filters $rate x $size; rewind weights to init }\n"
        "arm b { train 1ep lr=0.1 batch=32; prune filters 10%; rewind lr }\n"
    )
    results = run(text, set={"rate": "40%", "size": [1]}, only="a", seeds=2, store=folder / "kept", out=folder / "mine")
    assert [arm.id for arm in results.arms] == ["a[size=1]"]
    assert results.arms[0].sweep == {"size": "1"}
    assert results.seeds == (1, 2)
    assert results.arms[0].level(1).seed(1).metrics["filters"] == pytest.approx(0.6, abs=0.05)
    assert results.folder.parent == folder / "mine"
    assert list((folder / "kept").glob("results/*/*"))


def test_a_plan_with_errors_raises_its_findings_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(tickdsl.PlanError) as caught:
        run("data digits\ntrian 3ep")
    (finding,) = caught.value.findings
    assert (finding.code, finding.severity, finding.path, finding.line) == ("TD010", "error", "plan", 2)
    assert "did you mean `train`?" in str(caught.value)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("options", [{"only": "c"}, {"device": "tpu"}, {"deterministic": True, "stack": 4}])
def test_what_cannot_be_used_is_one_clear_error(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(tickdsl.TickdslError) as caught:
        run(PLAN, **options)
    assert caught.value.hint
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("name", ["jobs", "seeds", "stack"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(tickdsl.TickdslError, match=f"`{name}` cannot be 0"):
        tickdsl.run(PLAN, **{name: 0})  # type: ignore[arg-type]


def test_failed_steps_are_named_and_the_rest_is_there() -> None:
    with pytest.raises(tickdsl.RunError) as caught:
        run(DIVERGES)
    error = caught.value
    (step,) = error.failures
    assert "wild" in step and "diverged" in error.failures[step]
    assert step in str(error) and "tickdsl.run" in str(error)
    assert error.results.status == "failed"
    assert [level.number for level in error.results.arm("tame").levels] == [0, 1]


@pytest.mark.parametrize("code", [STOPPED, INTERRUPTED])
def test_a_run_that_was_stopped_is_continued_with_the_same_bits(folder: Path, code: int) -> None:
    plan = PLAN.replace("1ep", "12ep").replace("batch=32", "batch=16")
    polls = itertools.count()
    poll_control = Interpreter.poll_control

    def poll_or_stop(interpreter: Interpreter) -> None:
        if next(polls) == 4:
            interpreter.stop(code)
        poll_control(interpreter)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Interpreter, "poll_control", poll_or_stop)
        patched.setattr("tickdsl.engine.workers.worker.POLL_SECONDS", 0.01)
        with pytest.raises(tickdsl.RunError if code == STOPPED else KeyboardInterrupt, match="same call") as caught:
            run(plan)
    assert tickdsl.open_run().status == ("stopped" if code == STOPPED else "interrupted")
    assert type(caught.value) in (tickdsl.RunError, KeyboardInterrupt)  # of no subclass: see interrupted_run
    assert list(folder.glob(".tick/store/unfinished/*/*/training.ckpt"))
    assert run(plan).status == "ok"
    assert run(plan, store=folder / "whole").status == "ok"
    assert weight_bytes(folder / ".tick" / "store") == weight_bytes(folder / "whole")


def test_the_network_of_a_seed_computes_what_was_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(HEAD.replace("test=32", "test=200") + PLAN.removeprefix(HEAD).replace("seeds 1", "seeds 2"))
    arm = results.arms[0]
    assert results.best().number == 1
    level = arm.level(1)
    by_accuracy = sorted(level.seeds, key=lambda seed: (seed.metrics["accuracy"], seed.number))
    assert level.seed() == by_accuracy[0]
    monkeypatch.chdir(folder.parent)  # the store is found from elsewhere
    seed = level.seed(1)
    network, structure = seed.network(), seed.structure
    assert not network.training
    assert sum(parameter.numel() for parameter in network.parameters()) == seed.metrics["params"]
    dense = arm.level(0).seed(1).network()
    assert sum(parameter.numel() for parameter in dense.parameters()) > seed.metrics["params"]
    assert structure == seed.ticket().structure
    path = results.export(folder, level=1, seed=1)
    assert path == seed.export(folder / "again").with_name(path.name) and path.suffix == ".safetensors"
    assert path.read_bytes() == (folder / "again.safetensors").read_bytes()
    with pytest.raises(tickdsl.TickdslError, match="`format` cannot be 'zip'"):
        results.export(format="zip")  # type: ignore[arg-type]
    images = seed._taken.subject.test
    assert images.targets is not None
    with torch.no_grad():
        outputs = network(seed.ticket().preprocess(images.inputs))
    accuracy = (outputs.argmax(1) == images.targets).double().mean().item()
    assert accuracy == pytest.approx(seed.metrics["accuracy"])


def test_code_is_allowed_for_one_call_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    (folder / "own_network.py").write_text(
        "from torch import nn\n"
        "def small(classes, shape):\n"
        "    channels = shape[0]\n"
        "    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, classes))\n"
    )
    plan = PLAN.replace("small-cnn width=0.5", '"own_network:small"')
    results = run(plan, allow_code=True)
    assert results.arms[0].level(1).seed(1).network() is not None
    with pytest.raises(tickdsl.TickdslError, match="allow"):
        tickdsl.open_run().arms[0].level(1).seed(1).network()
    with pytest.raises(tickdsl.PlanError, match="TD117"):
        run(plan)
    assert [finding.code for finding in tickdsl.check(plan) if finding.severity == "error"] == ["TD117"]


def test_the_state_of_torch_makes_no_difference_and_is_kept(folder: Path) -> None:
    first = run(PLAN, store=folder / "first")
    torch.manual_seed(7)
    expected = torch.rand(3, dtype=torch.float64)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            again = run(PLAN, store=folder / "again")
            network = again.arms[0].level(1).seed(1).network()
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.rand(3), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.get_num_threads() == threads
    assert weight_bytes(folder / "first") == weight_bytes(folder / "again")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not any(parameter.is_inference() for parameter in network.parameters())
    known = first.arms[0].level(1).seed(1).network().state_dict()
    assert all(torch.equal(tensor, known[name]) for name, tensor in network.state_dict().items())
