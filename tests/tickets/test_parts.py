"""Parts of networks: files with an encoder, a decoder or a discriminator compute what the part does in its network."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from exported_tickets import own_ticket
from test_files_with_noise import subject_of
from torch import Tensor, nn

from tickdsl.errors import TickdslError, TicketError
from tickdsl.tickets.evaluating import evaluate_file
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.exporting import format_named
from tickdsl.tickets.formats.file_interface import interface_of
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.parts import call_part
from tickdsl.training.data import datasets
from tickdsl.training.tasks import CLASSIFY

PARTS = [
    ("conv-vae", "decoder"),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (("vae", "encoder"), ("dcgan", "discriminator"))),
]
FILES = pytest.mark.parametrize("form", ["pt2", "state-dict", pytest.param("onnx", marks=pytest.mark.slow)])


def exported(subject: Subject, form: str, part: str, folder: Path, **options: Any) -> tuple[Path, str]:
    """A file of a part, and the sentence that says how it was verified."""
    chosen, choice = FORMATS[form], ExportOptions(part=part, **options)
    path = folder / f"part{chosen.suffix}"
    chosen.write(subject, path, choice)
    return path, chosen.verify(path, subject, choice).sentence


def run(path: Path, inputs: Tensor) -> list[Tensor]:
    """The outputs of a file as its user gets them."""
    if path.suffix == ".pt2":
        outputs: Any = torch.export.load(path).module()(inputs)
    elif path.suffix == ".onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return [torch.from_numpy(each) for each in session.run(None, {session.get_inputs()[0].name: inputs.numpy()})]
    else:
        spec = importlib.util.spec_from_file_location("exported_part", path / "network.py")
        assert spec is not None and spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        outputs = code.load()(code.normalize(inputs) if hasattr(code, "normalize") else inputs)
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@FILES
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_file_computes_what_the_part_does_in_its_network(name: str, part: str, form: str, tmp_path: Path) -> None:
    """Images are taken in 0 to 1 and normalised, codes as they are."""
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    subject = subject_of(name, "masked")
    path, sentence = exported(subject, form, part, tmp_path)
    assert f"verified in a fresh process on what `{part}` is given for 40 test images" in sentence
    images = subject.test.inputs[:5]
    given = torch.randn(5, 6, 1, 1, generator=torch.Generator().manual_seed(1)) if part == "decoder" else images / 255
    normalised = given if part == "decoder" else subject.ticket.preprocess(images)
    with torch.no_grad():
        expected = subject.network.get_submodule(part)(normalised)
        found = run(path, given)
    for ours, theirs in zip(found, [expected] if isinstance(expected, Tensor) else expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
def test_decoder_and_encoder_are_the_network(tmp_path: Path) -> None:
    """What two files of a VAE compute together is its reconstruction from the mean."""
    subject = subject_of("vae")
    for folder in ("encoder", "decoder"):
        (tmp_path / folder).mkdir()
    encoder, decoder = (exported(subject, "pt2", part, tmp_path / part)[0] for part in ("encoder", "decoder"))
    images = subject.test.inputs[:7] / 255
    with torch.no_grad():
        mean, log_variance = run(encoder, images)
        (logits,) = run(decoder, mean)
        whole = subject.network(subject.ticket.preprocess(subject.test.inputs[:7]))
    assert torch.allclose(mean, whole.mean, atol=1e-5) and torch.allclose(log_variance, whole.log_variance, atol=1e-5)
    assert logits.shape == whole.logits.shape


def test_a_generator_is_also_written_as_code(tmp_path: Path) -> None:
    """As pt2 and onnx, it is what a GAN is exported as; its code makes images in -1 to 1, as its layers do."""
    subject = subject_of("dcgan")
    assert interface_of(subject.ticket, subject.network, part="generator") == interface_of(
        subject.ticket, subject.network
    )
    path, _ = exported(subject, "state-dict", "generator", tmp_path)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(run(path, z)[0], subject.network.get_submodule("generator")(z))


@pytest.mark.parametrize(
    "form", ["state-dict", *(pytest.param(form, marks=pytest.mark.slow) for form in ("pt2", "onnx"))]
)
def test_a_file_of_another_part_is_refused(form: str, tmp_path: Path) -> None:
    """Verification compares with the network that is given, not with what was written."""
    subject, other = subject_of("conv-vae"), subject_of("conv-vae").ticket.network()
    with torch.no_grad():
        other.get_submodule("decoder").get_parameter("deconv3.bias").add_(0.5)
    chosen, options = FORMATS[form], ExportOptions(part="decoder")
    path = tmp_path / f"part{chosen.suffix}"
    chosen.write(subject, path, options)
    with pytest.raises(TickdslError, match="differ from those of its network"):
        chosen.verify(path, attrs.evolve(subject, network=other), options)


@pytest.mark.slow
def test_8_bits_move_the_outputs_of_a_part(tmp_path: Path) -> None:
    subject = subject_of("conv-vae", "dense")
    _, sentence = exported(subject, "onnx", "decoder", tmp_path, int8=True)
    assert "8-bit weights move the outputs by" in sentence


@pytest.mark.slow
def test_any_module_that_is_called_with_one_tensor_is_a_part(tmp_path: Path) -> None:
    """Such as the head of a classifier, whose inputs are no images."""
    ticket, network = own_ticket("residual")
    subject = Subject(ticket=ticket, network=network, test=TestInputs.random(ticket.preprocessing))
    path, sentence = exported(subject, "pt2", "fc", tmp_path)
    assert "64 random images" in sentence
    head = network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    features = torch.rand(4, head.in_features)
    with torch.no_grad():
        assert torch.allclose(run(path, features)[0], head(features), atol=1e-6)


class Odd(nn.Module):
    """Has parts that are not called, are called with two tensors, and draw random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.noise, self.pair = nn.Linear(2, 2), nn.Dropout(0.5), nn.Bilinear(64, 64, 10)
        self.draw = Draw()

    def forward(self, images: Tensor) -> Tensor:
        flat = self.draw(images.flatten(1))
        logits: Tensor = self.pair(flat, flat)
        return logits


class Draw(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("nothing", r"has no part `nothing`\n.*its parts are `unused`, `noise`, `pair`, `draw`"),
        ("unused", "does not call `unused`"),
        ("pair", "`pair` does not take one tensor"),
        ("draw", "`draw` draws random numbers"),
    ],
)
def test_what_cannot_be_run_alone_is_refused(part: str, message: str) -> None:
    ticket, _ = own_ticket("residual")
    with pytest.raises(TickdslError) as raised:
        interface_of(ticket, Odd().eval(), part=part)
    assert re.search(message, str(raised.value))


def test_raw_does_not_apply_to_a_part_without_images() -> None:
    subject = subject_of("vae")
    assert interface_of(subject.ticket, subject.network, raw=True, part="encoder").of_inputs
    with pytest.raises(TickdslError, match="--raw does not apply to the part `decoder`"):
        interface_of(subject.ticket, subject.network, raw=True, part="decoder")


def test_a_ticket_holds_the_whole_network() -> None:
    with pytest.raises(TicketError, match="--part does not apply to --format ticket") as raised:
        format_named(None, None, ExportOptions(part="decoder"))
    assert raised.value.hint == "use it with --format pt2 or onnx or state-dict"


def test_a_data_set_judges_no_part(tmp_path: Path) -> None:
    path = tmp_path / "part.pt2"
    FORMATS["pt2"].write(subject_of("vae"), path, ExportOptions(part="encoder"))
    with pytest.raises(TicketError, match="holds the part `encoder`") as raised:
        evaluate_file(path, datasets.load("digits"), "digits")
    assert "without --part" in (raised.value.hint or "")


def test_what_a_part_is_given_is_not_changed_by_what_comes_after() -> None:
    """An activation in place overwrites what the layer before it returned."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, 10)).eval()
    ticket, _ = own_ticket("residual")
    images: Any = ticket.preprocessing.fixed(3)
    call = call_part(network, "1", ticket.preprocessing, images, CLASSIFY)
    with torch.no_grad():
        assert torch.equal(call.outputs, network[1](call.inputs)) and bool((call.outputs < 0).any())
