"""`tickdsl export`: what is exported and why, that it is verified, and that nothing is left if it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import image_files
import pytest
import torch
from command_line import CliHarness, CliResult

import tickdsl
from tickdsl.cli import main
from tickdsl.records import RunPaths, find_run
from tickdsl.records.files import write_atomically
from tickdsl.training.data import datasets
from tickdsl.training.evaluation import evaluate

PLAN = """\
data digits
model small-cnn width=0.25
train 1ep
seeds 1..2
sweep share in [10%, 30%]
arm cut { prune filters $share x 2; rewind lr }
"""


def run_plan(folder: Path, text: str, *flags: str) -> RunPaths:
    """Run a plan in a folder, with absolute paths."""
    (folder / "test.plan").write_text(text)
    places = ("--store", str(folder / "store"), "--out", str(folder / "runs"), "--device", "cpu", "--jobs", "1")
    assert main(["run", str(folder / "test.plan"), *places, *flags]) == 0
    return find_run(folder / "runs")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and its store, which tests do not change."""
    folder = tmp_path_factory.mktemp("finished")
    run_plan(folder, PLAN)
    return folder


@pytest.fixture
def export(finished: Path, harness: CliHarness) -> Iterator[Callable[..., CliResult]]:
    """Export from the finished run into an empty current folder."""

    def call(*arguments: object) -> CliResult:
        return harness.call("export", *arguments, "--out", finished / "runs")

    yield call
    assert not list(harness.folder.glob(".*")), "no drafts are left"


def test_a_ticket_is_chosen_verified_and_loaded(export: Callable[..., CliResult], finished: Path) -> None:
    result = export()
    assert result.exit == 0
    path = Path(result.out.splitlines()[-1])
    assert list(Path().iterdir()) == [path]
    assert "no ticket is shown to win, and this one is the most accurate" in result.out
    assert "the seed with the median accuracy of 2" in result.out
    assert "verified in a fresh process on 360 test images" in result.out
    assert "as stored, and the same images are right" in result.out
    for row in ("accuracy", "parameters", "multiply-adds", "bytes", "latency"):
        assert any(line.startswith(row) for line in result.out.splitlines())
    ticket = tickdsl.open_ticket(path)
    data = datasets.load("digits")
    assert (ticket.classes, ticket.preprocessing.shape) == (data.class_names, data.shape)
    assert ticket.preprocessing.mean == tuple(data.mean.tolist())
    assert ticket.preprocessing.std == tuple(data.std.tolist())
    assert ticket.plan == PLAN
    assert ticket.origin.keys["result"] in {path.name for path in (finished / "store/results").glob("*/*")}
    tested = evaluate(tickdsl.load(path), data.test_inputs, data.test_targets, preprocess=data.preprocess())
    assert tested.accuracy == ticket.metrics["accuracy"]
    floats = ticket.network()(ticket.preprocess(data.test_inputs[:50].float() / 255))
    assert torch.allclose(floats, ticket.network()(ticket.preprocess(data.test_inputs[:50])), atol=1e-4)


@pytest.mark.slow
def test_arm_level_and_seed_can_be_named(export: Callable[..., CliResult]) -> None:
    result = export("--arm", "cut", "--set", "share=0.3", "--level", 2, "--seed", 2, "--to", "mine")
    assert result.exit == 0, result.err
    assert result.out.startswith("cut[share=30%], round 2, seed 2: the level that was asked for; the seed that was")
    ticket = tickdsl.open_ticket("mine.safetensors")
    assert (ticket.origin.arm, ticket.origin.level, ticket.origin.seed) == ("cut[share=30%]", 2, 2)
    assert ticket.origin.sweep == {"share": "30%"}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--dense",), ("--level", "0")])
def test_the_dense_network_is_exported_likewise(flags: tuple[str, ...], export: Callable[..., CliResult]) -> None:
    result = export(*flags, "--seed", 1)
    assert result.exit == 0, result.err
    (path,) = Path().iterdir()
    ticket = tickdsl.open_ticket(path)
    assert (ticket.origin.contestant, ticket.origin.level) == ("dense", 0)
    assert ticket.network()[0].out_channels == 4, "nothing was removed"


@pytest.mark.slow
def test_plain_weights_come_with_code_that_runs_without_tickdsl(export: Callable[..., CliResult]) -> None:
    for _ in range(2):  # an earlier export is replaced
        result = export("--format", "state-dict", "--to", "weights")
        assert result.exit == 0, result.err
        assert "verified in a fresh process on 360 test images" in result.out
        assert sorted(path.name for path in Path("weights").iterdir()) == ["network.py", "weights.safetensors"]
    Path("weights/notes.txt").write_text("mine")
    result = export("--format", "state-dict", "--to", "weights")
    assert (result.exit, Path("weights/notes.txt").read_text()) == (2, "mine")
    assert "weights exists already" in result.err


BAD = {
    "no such level": (("--level", "9"), "has no level 9: the plan has 2 rounds"),
    "no such seed": (("--seed", "9", "--level", "1"), "was not trained with seed 9"),
    "no such arm": (("--arm", "cute"), "the run has no arm `cute`"),
    "no such sweep": (("--set", "width=2"), "--set width=2: the run has no sweep `width`"),
    "no such value": (("--set", "share=40%"), "--set share=40%: `share` has no such value"),
    "no such run": (("card",), "no run card in "),
    "no such store": (("--store", "elsewhere"), "of this network is not in the store elsewhere"),
    "an option of another format": (("--raw",), "--raw does not apply to --format ticket"),
    "a suffix of another format": (("--format", "ticket", "--to", "x.onnx"), "`.onnx` is the suffix of --format onnx"),
    "a device": (("--to", "/dev/null"), "/dev/null is a device or a pipe, not a file"),
    "no place for files": (("--to", "/proc/x.safetensors"), "cannot write /proc/x.safetensors: "),
    "no such folder": (("--to", "nowhere/x.safetensors"), "there is no folder nowhere"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_there_is_one_clear_message(kind: str, export: Callable[..., CliResult]) -> None:
    arguments, message = BAD[kind]
    result = export(*arguments)
    assert result.exit == 2
    assert message in result.err
    assert result.err.startswith("tickdsl: ")
    assert result.err.splitlines()[1].startswith("  help: ")
    assert "--to" in result.err or "--to" not in arguments
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", ""), "argument --to: the path is empty; write `.` for the current folder"),
        (("--level", "-1"), "argument --level: '-1' is not a whole number of at least 0"),
    ],
)
def test_values_that_no_option_has_are_refused(
    arguments: tuple[str, ...], message: str, export: Callable[..., CliResult], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        export(*arguments)
    assert message in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_the_newest_of_several_runs_is_taken(finished: Path, harness: CliHarness) -> None:
    events = find_run(finished / "runs").events.read_text()
    names = [f"test-20260101-00000{number}-aaaa" for number in range(2)]
    for number, name in enumerate(names):
        (harness.folder / "runs" / name).mkdir(parents=True)
        (harness.folder / "runs" / name / "events.jsonl").write_text(f'{{"t": {number}, {events[1:]}')
    result = harness.call("export", "test-2026", "--arm", "none")
    assert result.out == f"2 runs start with test-2026: taking the newest one, {names[1]}\n"
    assert "the run has no arm `none`" in result.err
    assert harness.call("export", names[0], "--arm", "none").out == ""


def change_record(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the records of all results in a store, as an earlier version without checksums could have written them."""
    for path in (folder / "store/results").glob("*/*/result.json"):
        record = json.loads(path.read_text())
        del record["sha256"]
        change(record)
        write_atomically(path, json.dumps(record).encode())


@pytest.fixture
def own_copy(finished: Path, tmp_path: Path, harness: CliHarness) -> Path:
    """A copy of the finished run and its store, and an empty current folder."""
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "here").mkdir()
    return tmp_path / "copy"


def call_on(folder: Path, harness: CliHarness, *arguments: object) -> CliResult:
    return harness.call("export", *arguments, "--store", folder / "store", "--out", folder / "runs")


@pytest.mark.slow
def test_a_file_that_fails_its_verification_is_not_left(own_copy: Path, harness: CliHarness) -> None:
    target = harness.folder / "here/x.safetensors"
    target.write_text("an earlier file")

    def other_accuracy(record: dict[str, Any]) -> None:
        record["metrics"].pop("correct", None)
        record["metrics"]["accuracy"] = 0.999

    change_record(own_copy, other_accuracy)
    result = call_on(own_copy, harness, "--to", target)
    assert result.exit == 3
    assert "of the test images, and its run on 99.90%" in result.err
    assert "no file was written" in result.err
    assert [path.name for path in target.parent.iterdir()] == ["x.safetensors"]
    assert target.read_text() == "an earlier file"


@pytest.mark.slow
def test_results_of_earlier_versions_take_the_normalisation_from_the_data(own_copy: Path, harness: CliHarness) -> None:
    def without_description(record: dict[str, Any]) -> None:
        record["files"].pop("data.json", None)

    for path in (own_copy / "store/results").glob("*/*/data.json"):
        path.unlink()
    change_record(own_copy, without_description)
    result = call_on(own_copy, harness, "--to", harness.folder / "here/x.safetensors")
    assert result.exit == 0, result.err
    data = datasets.load("digits")
    assert tickdsl.open_ticket(harness.folder / "here/x.safetensors").preprocessing.mean == tuple(data.mean.tolist())


def test_a_damaged_result_is_refused(own_copy: Path, harness: CliHarness) -> None:
    for path in (own_copy / "store/results").glob("*/*/weights.safetensors"):
        path.write_bytes(path.read_bytes()[:-4])
    result = call_on(own_copy, harness, "--to", harness.folder / "here/x.safetensors")
    assert result.exit == 2
    assert "is not in the store" in result.err
    assert list((harness.folder / "here").iterdir()) == []


def test_a_run_without_levels_is_refused(own_copy: Path, harness: CliHarness) -> None:
    events = find_run(own_copy / "runs").events
    lines = [line for line in events.read_text().splitlines() if '"type":"metric"' not in line]
    events.write_text("\n".join(lines) + "\n")
    result = call_on(own_copy, harness)
    assert result.exit == 2
    assert "the run has no levels" in result.err


def test_a_level_that_was_never_trained_is_refused(own_copy: Path, harness: CliHarness) -> None:
    events = find_run(own_copy / "runs").events
    records = [json.loads(line) for line in events.read_text().splitlines()]
    kept = [record for record in records if not (record["type"] == "metric" and record["level"] == 2)]
    events.write_text("".join(f"{json.dumps(record)}\n" for record in kept))
    result = call_on(own_copy, harness, "--level", 2, "--arm", "cut[share=10%]")
    assert result.exit == 2
    assert "level 2 of cut[share=10%] was not trained in this run" in result.err
    assert "it has the measured level 1" in result.err


FOLDER_PLAN = """\
data folder path="{path}"
model small-cnn width=0.25
train 1ep
prune filters 30%
"""


@pytest.mark.slow
def test_without_the_data_random_images_are_compared(harness: CliHarness) -> None:
    images = image_files.write_folder(harness.folder / "pets", image_files.two_classes())
    run_plan(harness.folder, FOLDER_PLAN.format(path=images), "--data", str(harness.folder / "data"))
    arguments = ("export", "--out", harness.folder / "runs", "--to", "x.safetensors")
    result = harness.call(*arguments)
    assert result.exit == 0, result.err
    assert "verified in a fresh process on 4 test images" in result.out
    shutil.rmtree(images)
    result = harness.call(*arguments)
    assert result.exit == 0, result.err
    assert "verified in a fresh process on 64 random images, as the test set is not at hand" in result.out
    ticket = tickdsl.open_ticket("x.safetensors")
    assert (ticket.classes, ticket.preprocessing.shape) == (("cat", "dog"), (3, 6, 6))


OWN_NETWORKS = """
import torch
from torch import nn
from torch.nn import functional as F

class Rewritten(nn.Module):
    def __init__(self, classes, shape):
        super().__init__()
        self.first = nn.Conv2d(shape[0], 12, 3, padding=1)
        self.second = nn.Conv2d(12, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, classes)

    def forward(self, x):
        x = F.relu(self.first(x))
        left, right = x[:, :6], x[:, 6:12]
        x = F.max_pool2d(F.relu(self.second(torch.cat([left, right], 1))), 2)
        return self.fc(x.reshape(-1, 16 * 16))

class Residual(nn.Module):
    def __init__(self, classes, shape, width=12):
        super().__init__()
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1)
        self.a = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + F.relu(self.norm(self.a(x)))
        return self.fc(x.mean((2, 3)))

class Masked(nn.Sequential):
    def __init__(self, classes, shape):
        super().__init__(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, classes))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "prune"), [("Rewritten", "filters 30%"), ("Residual", "filters 30%"), ("Masked", "weights global 90%")]
)
def test_own_networks_are_exported_and_loaded(
    kind: str, prune: str, harness: CliHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tickdsl.plugins.permission._allowed", False)
    monkeypatch.syspath_prepend(harness.folder)
    module = f"own_{kind.lower()}_network"
    (harness.folder / f"{module}.py").write_text(OWN_NETWORKS)
    plan = f'data digits\nmodel "{module}:{kind}"\ntrain 1ep\nprune {prune}\n'
    run_plan(harness.folder, plan, "--allow-code")
    result = harness.call(
        "export", "--out", harness.folder / "runs", "--to", "x.safetensors", "--sparse", "--allow-code"
    )
    assert result.exit == 0, result.err
    assert "as stored, and the same images are right" in result.out
    assert ("--sparse saves nothing" not in result.out) == (kind == "Masked")

    monkeypatch.setattr("tickdsl.plugins.permission._allowed", False)
    with pytest.raises(tickdsl.TicketError, match=r"needs permission to run(.|\n)*allow_code=True"):
        tickdsl.load("x.safetensors")
    factory = getattr(__import__(module), kind)
    network = tickdsl.load("x.safetensors", network=factory)
    ticket, data = tickdsl.open_ticket("x.safetensors"), datasets.load("digits")
    tested = evaluate(network, data.test_inputs, data.test_targets, preprocess=data.preprocess())
    assert tested.accuracy == ticket.metrics["accuracy"]
    refused = harness.call(
        "export", "--out", harness.folder / "runs", "--format", "state-dict", "--to", "y", "--allow-code"
    )
    assert refused.exit == 2
    assert "is not a network of tickdsl's own" in refused.err
    assert not Path("y").exists()
