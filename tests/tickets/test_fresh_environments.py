"""Exported files run in environments that have only torch, or only onnxruntime, with the accuracy of the run."""

from __future__ import annotations

from pathlib import Path

import attrs
import exported_tickets
import pytest
import torch
from bare_environments import bare_environment, importable
from exported_tickets import OWN, catalogue_ticket, own_ticket

from tickdsl.cli import main
from tickdsl.records import find_run
from tickdsl.tickets.choice import Wanted
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportFormat, ExportOptions, Subject, TestInputs
from tickdsl.tickets.exporting import export
from tickdsl.tickets.formats.onnx import ONNX
from tickdsl.tickets.formats.portable_verification import run_in_fresh_process, share_right
from tickdsl.tickets.formats.pt2 import PT2
from tickdsl.tickets.from_run import TicketOfRun, ticket_of_run

pytestmark = pytest.mark.slow
LIBRARIES = {"pt2": "torch", "onnx": "onnxruntime"}
FORMATS = pytest.mark.parametrize("form", [PT2, ONNX], ids=lambda form: form.name)
PLAN = """\
model small-cnn width=0.5
data digits
train 3ep lr=0.1 batch=64
prune filters 40%; rewind lr
"""


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The interpreter of a bare environment for each format."""
    folder = tmp_path_factory.mktemp("environments")
    return {form: bare_environment(folder / form, library) for form, library in LIBRARIES.items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TicketOfRun:
    """A ticket of a run on the digits."""
    folder = tmp_path_factory.mktemp("run")
    plan = folder / "digits.plan"
    plan.write_text(PLAN)
    assert main(["run", str(plan), "--store", f"{folder}/store", "--out", f"{folder}/runs", "--jobs", "1"]) == 0
    return ticket_of_run(find_run(folder / "runs"), Wanted())


def exported(form: ExportFormat, subject: Subject, folder: Path, **options: bool) -> Path:
    path = folder / f"ticket{form.suffix}"
    form.write(subject, path, ExportOptions(**options))
    return path


def test_the_environments_have_one_library(pythons: dict[str, Path]) -> None:
    names = ("torch", "onnxruntime", "tickdsl", "torchvision", "safetensors", "onnx", "lark")
    assert importable(pythons["pt2"], *names) == [True, *[False] * 6]
    assert importable(pythons["onnx"], *names) == [False, True, *[False] * 5]


@FORMATS
@pytest.mark.parametrize("raw", [False, True], ids=["normalised inside", "raw"])
def test_the_accuracy_is_that_of_the_run(
    form: ExportFormat, raw: bool, trained: TicketOfRun, pythons: dict[str, Path], tmp_path: Path
) -> None:
    subject = trained.subject
    path = exported(form, subject, tmp_path, raw=raw)
    preprocessing = subject.ticket.preprocessing
    (outputs,) = run_in_fresh_process(path, subject.test.inputs, preprocessing, raw=raw, python=pythons[form.name])
    assert subject.test.targets is not None and len(outputs) == 360
    assert share_right(outputs, subject.test.targets) == subject.ticket.metrics["accuracy"] > 0.5
    with torch.no_grad():
        expected = subject.network(subject.ticket.preprocess(subject.test.inputs))
    assert torch.allclose(outputs, expected, atol=1e-4)
    verified = form.verify(path, subject, ExportOptions(raw=raw))
    assert verified.score == subject.ticket.metrics["accuracy"]
    assert "360 test images" in verified.sentence and "as stored" in verified.sentence


@FORMATS
@pytest.mark.parametrize("name", [*OWN, "resnet20", "vgg11", "mobilenet_v2", "vit_b_32"])
def test_other_networks_run_there(form: ExportFormat, name: str, pythons: dict[str, Path], tmp_path: Path) -> None:
    ticket, network = own_ticket(name) if name in OWN else catalogue_ticket(name)
    images = exported_tickets.test_images(ticket.preprocessing.shape, 9)
    path = exported(form, Subject(ticket=ticket, network=network, test=TestInputs(images)), tmp_path)
    (outputs,) = run_in_fresh_process(path, images, ticket.preprocessing, python=pythons[form.name])
    with torch.no_grad():
        expected = network(ticket.preprocess(images))
    assert (outputs - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_what_8_bits_cost_is_measured(trained: TicketOfRun, pythons: dict[str, Path], tmp_path: Path) -> None:
    """The printed accuracy is that of the file, measured in another environment; and the float file's is the run's."""
    subject = trained.subject
    path = exported(ONNX, subject, tmp_path, int8=True)
    labels = subject.test.targets
    assert labels is not None
    (outputs,) = run_in_fresh_process(path, subject.test.inputs, subject.ticket.preprocessing, python=pythons["onnx"])
    accuracy = share_right(outputs, labels)
    verified = ONNX.verify(path, subject, ExportOptions(int8=True))
    assert verified.score == accuracy
    lost = subject.ticket.metrics["accuracy"] - accuracy
    cost = (
        "which costs nothing" if not lost else f"which {'costs' if lost > 0 else 'gains'} {100 * abs(lost):.2f} points"
    )
    assert f"{100 * accuracy:.2f}%, {cost}" in verified.sentence


@FORMATS
def test_a_file_that_computes_something_else_is_refused(
    form: ExportFormat, trained: TicketOfRun, tmp_path: Path
) -> None:
    subject = trained.subject
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    path = exported(form, Subject(ticket=subject.ticket, network=other, test=subject.test), tmp_path)
    with pytest.raises(VerificationError, match=f"the outputs of ticket.{form.name} differ"):
        form.verify(path, subject, ExportOptions())
    path.write_bytes(b"nothing")
    with pytest.raises(VerificationError, match=f"ticket.{form.name} does not run in a fresh process") as error:
        form.verify(path, subject, ExportOptions())
    assert "\n" not in error.value.message


def test_another_accuracy_is_refused_and_leaves_no_file(trained: TicketOfRun, tmp_path: Path) -> None:
    subject = trained.subject
    metrics = {**subject.ticket.metrics, "accuracy": subject.ticket.metrics["accuracy"] - 0.0011}
    changed = attrs.evolve(subject, ticket=attrs.evolve(subject.ticket, metrics=metrics))
    path = exported(ONNX, changed, tmp_path)
    with pytest.raises(VerificationError, match=r"at most 0\.1 points of difference are allowed"):
        ONNX.verify(path, changed, ExportOptions())
    path.unlink()
    with pytest.raises(VerificationError):
        export(attrs.evolve(trained, subject=changed), ONNX, path)
    assert list(tmp_path.iterdir()) == []
    metrics["accuracy"] += 0.0002
    assert export(attrs.evolve(trained, subject=changed), ONNX, path).verified.score is not None
    assert list(tmp_path.iterdir()) == [path]


@FORMATS
def test_without_data_random_images_are_used_and_it_is_said(
    form: ExportFormat, trained: TicketOfRun, tmp_path: Path
) -> None:
    ticket = trained.ticket
    test = TestInputs.random(ticket.preprocessing, "mnist is not in data")
    subject = Subject(ticket=ticket, network=trained.subject.network, test=test)
    verified = form.verify(exported(form, subject, tmp_path), subject, ExportOptions())
    assert verified.score is None
    assert "64 random images, as the test set is not at hand (mnist is not in data)" in verified.sentence
