"""`tickdsl evaluate` and `tickdsl graph` of files: the figures, and one clear message for what cannot be evaluated."""

from __future__ import annotations

import json
import math

import pytest
import torch
from command_line import CliHarness
from plan_tickets import plan_ticket, written
from regression_data import PLUGIN

from tickdsl.plugins import permission
from tickdsl.tickets.evaluating import _wilson
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.onnx import write_onnx
from tickdsl.tickets.formats.pt2 import write_pt2
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.data.datasets import load


def digits_ticket() -> Ticket:
    """An untrained ticket, as it would be trained on `digits`."""
    import attrs

    data = load("digits")
    return attrs.evolve(plan_ticket(), preprocessing=Preprocessing.of_dataset(data), classes=data.class_names)


def right_share(ticket: Ticket) -> float:
    data = load("digits")
    with torch.no_grad():
        outputs = ticket.network()(ticket.preprocess(data.test_inputs))
    return int((outputs.argmax(1) == data.test_targets).sum()) / len(data.test_targets)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_all_formats_have_the_same_accuracy(suffix: str, raw: bool, harness: CliHarness) -> None:
    ticket = digits_ticket()
    path = harness.folder / f"t{suffix}"
    subject = Subject(ticket=ticket, network=ticket.network(), test=TestInputs(torch.zeros(1, 1, 8, 8)))
    if suffix == ".safetensors":
        written(path, ticket)
    else:
        {".pt2": write_pt2, ".onnx": write_onnx}[suffix](subject, path, ExportOptions(raw=raw))
    found = json.loads(harness.call("evaluate", path, "--on", "digits", "--json").out)
    assert found["accuracy"] == pytest.approx(right_share(ticket), abs=0.003)
    assert found["low"] < found["accuracy"] < found["high"] and found["images"] == 360
    assert found["format"] == suffix[1:].replace("safetensors", "ticket") and found["latency"] > 0
    assert found["notes"] == [] and found["bytes"] == path.stat().st_size and found["stored"] == 0.1


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (324, 360), (1, 10_000)])
def test_the_ends_of_the_interval_are_the_shares_that_are_just_not_rejected(right: int, count: int) -> None:
    """Wilson's interval inverts the score test: at its ends, the share is 1.96 standard deviations away."""
    share = right / count
    for end in _wilson(right, count):
        apart = abs(share - end) / math.sqrt(end * (1 - end) / count) if 1e-9 < end < 1 - 1e-9 else 0
        assert apart == pytest.approx(1.959964 if 1e-9 < end < 1 - 1e-9 else 0, abs=1e-5)
    low, high = _wilson(right, count)
    assert 0 <= low <= share <= high <= 1 and low < high


@pytest.mark.parametrize(
    ("on", "says"),
    [
        ("digits size=16", "takes images of 1×8×8, and digits has 1×16×16"),
        ("mnist-small", "takes images of 1×8×8, and mnist-small has 1×28×28"),
        ("synthetic size=8 channels=1 classes=4", "tells 10 classes apart, and synthetic has 4"),
        ("digit", "no data set `digit`"),
        ("digits sise=8", "digits has no option `sise`"),
        ("digits 'x", "a quote is not closed"),
        ("", "no data set ``"),
        ("folder", ""),
    ],
)
def test_data_that_does_not_fit(on: str, says: str, harness: CliHarness) -> None:
    written(harness.folder / "t.safetensors", digits_ticket())
    result = harness.call("evaluate", harness.folder / "t.safetensors", "--on", on)
    assert result.exit == 2 and says in result.err and "Traceback" not in result.err and not result.out


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("no.safetensors", None), ("no.pt2", None), ("no.onnx", None), ("x.pt2", b"PK\3\4"), ("x.onnx", b"\0\1"),
        ("x.safetensors", b"{}"), ("x.png", b"\x89PNG"), ("x", b""),
    ],
)  # fmt: skip
def test_files_that_cannot_be_evaluated(name: str, content: bytes | None, harness: CliHarness) -> None:
    path = harness.folder / name
    if content is not None:
        path.write_bytes(content)
    result = harness.call("evaluate", path, "--on", "digits")
    assert result.exit == 2 and name in result.err and "help:" in result.err and not result.out


def test_a_folder_whose_name_has_a_space(harness: CliHarness) -> None:
    written(harness.folder / "t.safetensors", digits_ticket())
    result = harness.call("evaluate", harness.folder / "t.safetensors", "--on", "folder path='my photos'")
    assert result.exit == 2 and "my photos" in result.err


def test_classes_with_other_names_are_noted(harness: CliHarness) -> None:
    written(harness.folder / "t.safetensors", digits_ticket(), classes=tuple("abcdefghij"))
    assert "other names" in harness.call("evaluate", harness.folder / "t.safetensors", "--on", "digits").out


def test_the_graph_of_a_ticket_shows_what_is_left(harness: CliHarness) -> None:
    ticket = plan_ticket(masks=True)
    path = written(harness.folder / "t.safetensors", ticket)
    (found,) = json.loads(harness.call("graph", path, "--json").out)["tickets"]
    for layer in found["layers"]:
        shape = ticket.weights[f"{layer['path']}.weight"].shape
        assert layer["outputs"] == shape[0] <= layer["dense_outputs"]
        assert 0 < layer["weights"] < layer["dense_weights"]
    text = harness.call("graph", path).out
    assert "conv1" in text and "left)" in text


def test_the_graph_names_removed_layers(harness: CliHarness) -> None:
    path = written(harness.folder / "t.safetensors", plan_ticket("resnet20", blocks=1))
    (found,) = json.loads(harness.call("graph", path, "--json").out)["tickets"]
    assert len(found["removed_blocks"]) == 1
    assert any(layer["removed"] for layer in found["layers"])
    assert "removed layers: " in harness.call("graph", path).out


@pytest.mark.parametrize("option", [["--svg"], ["--dot"], ["--at", "50%"], ["--on", "digits"], ["--option", "width=1"]])
def test_options_that_do_not_apply_to_a_ticket(option: list[str], harness: CliHarness) -> None:
    path = written(harness.folder / "t.safetensors", plan_ticket())
    result = harness.call("graph", path, *option)
    assert result.exit == 2 and f"{option[0]} does not apply to a ticket" in result.err


@pytest.mark.parametrize("name", ["x.onnx", "x.pt2"])
def test_the_graph_of_a_program_is_refused(name: str, harness: CliHarness) -> None:
    (harness.folder / name).write_bytes(b"\x08\x0a\xff\xfe")
    result = harness.call("graph", harness.folder / name)
    assert result.exit == 2 and "does not say what was pruned" in result.err
    assert f"tickdsl evaluate {harness.folder / name} --on DATA" in result.err


def test_a_file_of_another_task_has_its_metrics(harness: CliHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    (harness.folder / "own_spots.py").write_text(PLUGIN.format(change="pass"))
    monkeypatch.syspath_prepend(harness.folder)
    monkeypatch.setattr(permission, "_allowed", False)
    path = harness.folder / "t.safetensors"
    ticket = plan_ticket(classes=2, shape=(1, 8, 8))
    written(path, ticket, task="regress", metrics={"score": 0.5, "metric": "rmse"}, classes=("row", "column"))
    shown = harness.call("evaluate", path, "--on", '"own_spots:spots"', "--allow-code")
    assert shown.exit == 0, shown.err
    lines = dict(line.split("  ", 1) for line in shown.out.splitlines() if "  " in line)
    assert lines["task"].strip() == "regress"
    assert "40 images; stored in the file: 0.5" in lines["rmse"]
    assert {"r2", "loss", "parameters"} <= set(lines) and "accuracy" not in lines
    refused = harness.call("evaluate", path, "--on", "digits")
    assert refused.exit != 0 and "was trained for the task regress, and the task of digits is classify" in refused.err
