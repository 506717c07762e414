"""Tickets of other tasks than classifying images: tokens, several outputs, other metrics, in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import attrs
import numpy as np
import pytest
import torch
from plan_tickets import plan_ticket
from regression_data import spots
from task_plugins import Reader
from torch import Tensor, nn

import tickdsl
from tickdsl.errors import TickdslError, TicketError
from tickdsl.graph.structure import Structure
from tickdsl.plugins import permission
from tickdsl.pruning import ticket_content
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.evaluating import evaluate_file
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.outputs import OutputInfo, describe_outputs, joined, leaves, like
from tickdsl.tickets.outputs import test_figures as figures_of
from tickdsl.tickets.preprocessing import InputPreprocessing, Preprocessing, preprocessing_from_json, preprocessing_of
from tickdsl.tickets.rebuilding import dense_network_of, probe_outputs, run_probe
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.ticket_file import open_ticket, write_ticket
from tickdsl.tickets.token_preprocessing import TokenPreprocessing
from tickdsl.tickets.verification import compare_accuracy
from tickdsl.training.evaluation import evaluate
from tickdsl.training.models import create
from tickdsl.training.tasks import find_task

WORDS = TokenPreprocessing(6, 12)
IMAGES = Preprocessing(1, 8, 8, (0.3,), (0.4,))


class Reconstruction(NamedTuple):
    """What an autoencoder returns."""

    image: Tensor
    code: Tensor


class Autoencoder(nn.Module):
    """Returns the image that it reconstructs, and its code: [B, 1, 8, 8] and [B, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(64, 6), nn.Linear(6, 64)

    def forward(self, images: Tensor) -> Reconstruction:
        code = self.encode(images.flatten(1))
        return Reconstruction(self.decode(code).view(-1, 1, 8, 8), code)


class PixelClasses(nn.Module):
    """Logits of 3 classes for every pixel: [B, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.conv(images)
        return logits


def reader() -> nn.Module:
    return Reader(2, 6, 12, 24)


def autoencoder() -> nn.Module:
    return Autoencoder()


def pixel_classes() -> nn.Module:
    return PixelClasses()


KINDS = {
    "reader": (reader, WORDS, 2),
    "autoencoder": (autoencoder, IMAGES, 1),
    "pixel_classes": (pixel_classes, IMAGES, 3),
}


def subject_of(kind: str) -> Subject:
    """An untrained ticket of one of these networks, whose task is that of a regression: only its name matters here."""
    factory, preprocessing, outputs = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = factory().eval()
    source = NetworkSource(f"test_tickets_of_tasks:{kind}", {}, outputs, preprocessing.shape, "test")
    graph = dense_network_of(source, network).graph
    task = find_task("regress" if kind != "reader" else "classify")
    ticket = Ticket(
        source=source,
        structure=Structure.dense(graph),
        weights={name: tensor.clone() for name, tensor in network.state_dict().items()},
        preprocessing=preprocessing,
        classes=tuple(map(str, range(outputs))),
        task=task.name,
        outputs=describe_outputs(run_probe(network, preprocessing), task),
        probe=probe_outputs(network, preprocessing),
    )
    return Subject(ticket=ticket, network=network, test=TestInputs.random(preprocessing), allow_code=True)


@pytest.fixture(autouse=True)
def code_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permission, "_allowed", True)


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_portable_files_compute_what_the_network_does(kind: str, suffix: str, tmp_path: Path) -> None:
    """Every output is verified in a fresh process, which has nothing of tickdsl."""
    subject = subject_of(kind)
    form = next(form for form in FORMATS.values() if form.suffix == suffix)
    path = tmp_path / f"t{suffix}"
    (said,) = form.write(subject, path, ExportOptions())
    for output in subject.ticket.outputs:
        assert output.in_words in said
    verified = form.verify(path, subject, ExportOptions())
    assert verified.score is None and "outputs differ by at most" in verified.sentence
    kinds = "random sequences" if kind == "reader" else "random images"
    assert f"64 {kinds}" in verified.sentence


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_8_bits_cost_is_said_of_any_outputs(kind: str, tmp_path: Path) -> None:
    subject, form = subject_of(kind), FORMATS["onnx"]
    path = tmp_path / "t.onnx"
    form.write(subject, path, ExportOptions(int8=True))
    sentence = form.verify(path, subject, ExportOptions(int8=True)).sentence
    assert ("change the class of" if kind == "reader" else "8-bit weights move the outputs by") in sentence


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_file_that_computes_something_else_is_refused(suffix: str, tmp_path: Path) -> None:
    subject = subject_of("autoencoder")
    form = next(form for form in FORMATS.values() if form.suffix == suffix)
    path = tmp_path / f"t{suffix}"
    form.write(subject, path, ExportOptions())
    with torch.no_grad():
        subject.network.encode.weight[0, 0] += 1.0  # type: ignore[index,union-attr,operator]
    with pytest.raises(VerificationError, match=r"the outputs of .* differ from those of its network"):
        form.verify(path, subject, ExportOptions())


def test_tokens_are_no_images_in_messages(tmp_path: Path) -> None:
    subject, path = subject_of("reader"), tmp_path / "t.pt2"
    with torch.no_grad():
        right = subject.network(subject.ticket.preprocess(subject.test.inputs)).argmax(1)
    known = attrs.evolve(subject, test=TestInputs(subject.test.inputs, right))
    for accuracy, expected in ((1.0, "on 64 test sequences: 100.00%"), (0.5, "of the test sequences")):
        judged = attrs.evolve(known, ticket=attrs.evolve(known.ticket, metrics={"accuracy": accuracy}))
        correct = torch.ones(64, dtype=torch.bool)
        if accuracy == 1.0:
            assert expected in compare_accuracy(path, judged, correct).sentence
        else:
            with pytest.raises(VerificationError, match=expected) as raised:
                compare_accuracy(path, judged, correct)
            assert "32 sequences are classified differently" in raised.value.message


def test_metadata_say_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    subject, path = subject_of("autoencoder"), tmp_path / "t.pt2"
    FORMATS["pt2"].write(subject, path, ExportOptions())
    extra = {"ticket.json": ""}
    torch.export.load(path, extra_files=extra)
    known = {
        key: json.loads(value) for key, value in json.loads(extra["ticket.json"]).items() if key in ("task", "outputs")
    }
    assert known["task"] == "regress"
    assert [(each["name"], each["shape"]) for each in known["outputs"]] == [("image", [1, 8, 8]), ("code", [6])]
    assert all(each["meaning"] for each in known["outputs"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_ticket_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    factory, preprocessing, _ = KINDS[kind]
    subject, path = subject_of(kind), tmp_path / "t.safetensors"
    write_ticket(subject.ticket, path)
    back = open_ticket(path)
    assert (back.task, back.outputs, back.preprocessing) == (subject.ticket.task, subject.ticket.outputs, preprocessing)
    inputs = back.preprocess(preprocessing.random(5))
    with torch.no_grad():
        found = tickdsl.load(path, network=factory)(inputs)
        for one, other in zip(leaves(found), leaves(subject.network(inputs)), strict=True):
            assert torch.equal(one, other)


def test_tickets_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They name neither task nor outputs, and their preprocessing has no kind."""
    path = tmp_path / "t.safetensors"
    write_ticket(plan_ticket(), path)
    content = ticket_content.read(path)
    about = {key: value for key, value in content.about.items() if key not in ("task", "outputs", "structure")}
    path.write_bytes(ticket_content.to_bytes(attrs.evolve(content, about=about)))
    old = open_ticket(path)
    assert (old.task, old.outputs, old.metric, old.score) == ("classify", (), "accuracy", 0.1)
    assert isinstance(old.preprocessing, Preprocessing) and old.network() is not None


@pytest.mark.parametrize("preprocessing", [WORDS, IMAGES])
def test_preprocessing_comes_back_from_json(preprocessing: InputPreprocessing) -> None:
    assert preprocessing_from_json(json.loads(json.dumps(preprocessing.as_json()))) == preprocessing
    assert torch.equal(preprocessing.fixed(2), preprocessing.fixed(2))
    assert preprocessing.fixed(2).shape == preprocessing.random(2).shape


@pytest.mark.parametrize(
    "tokens", [[1, 2, 3, 4, 5, 11], np.array([[1, 2, 3, 4, 5, 11]], np.uint16), torch.tensor([[1, 2, 3, 4, 5, 11]])]
)
def test_tokens_of_any_form_are_prepared(tokens: object) -> None:
    prepared = WORDS(tokens)  # type: ignore[arg-type]
    assert prepared.dtype == torch.int64 and prepared.tolist() == [[1, 2, 3, 4, 5, 11]]


@pytest.mark.parametrize(
    ("tokens", "problem"),
    [
        ([0, 1, 2], "these have 3"),
        ([0, 1, 2, 3, 4, 12], "these are from 0 to 12"),
        ([0, 1, 2, 3, 4, -1], "these are from -1 to 4"),
        (torch.zeros(2, 6), r"these are float32 \[2, 6\]"),
        ("abcdef", "these are str"),
        (np.zeros((2, 2, 6), int), r"these are int64 \[2, 2, 6\]"),
    ],
)
def test_other_tokens_are_one_message(tokens: object, problem: str) -> None:
    with pytest.raises(TickdslError, match=problem) as raised:
        WORDS(tokens)  # type: ignore[arg-type]
    assert raised.value.hint and "6 tokens of 12" in raised.value.message


def test_outputs_of_any_form_are_taken_apart_and_put_together() -> None:
    made = Reconstruction(torch.rand(3, 2), torch.rand(3))
    assert like(made, leaves(made)) == made
    both = joined([made, made])
    assert isinstance(both, Reconstruction) and both.image.shape == (6, 2) and both.code.shape == (6,)
    nested = describe_outputs({"a": made, "b": torch.rand(3, 4)}, find_task("regress"))
    assert [output.name for output in nested] == ["a_image", "a_code", "b"]
    assert describe_outputs(torch.rand(2, 10), find_task("classify")) == (
        OutputInfo("logits", (10,), "the logits of the classes"),
    )


def regression_ticket() -> Ticket:
    """A small network for `spots`, untrained, with the score that it has."""
    data = spots()
    network = create("small-cnn", classes=2, shape=(1, 8, 8), seed=0, options={"width": 0.5}).eval()
    source = NetworkSource("small-cnn", {"width": 0.5}, 2, (1, 8, 8))
    score = evaluate(network, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task).score
    return Ticket(
        source=source,
        structure=Structure.dense(dense_network_of(source).graph),
        weights=network.state_dict(),
        preprocessing=preprocessing_of(data),
        classes=data.class_names,
        task="regress",
        outputs=describe_outputs(run_probe(network, preprocessing_of(data)), data.task),
        metrics={"score": score, "metric": "rmse", "figures": {"rmse": score}},
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_file_is_judged_by_the_metric_of_its_task(suffix: str, tmp_path: Path) -> None:
    ticket, data, path = regression_ticket(), spots(), tmp_path / f"t{suffix}"
    subject = Subject(ticket=ticket, network=ticket.network(), test=TestInputs(data.test_inputs, data.test_targets))
    form = FORMATS["ticket"] if suffix == ".safetensors" else next(f for f in FORMATS.values() if f.suffix == suffix)
    form.write(subject, path, ExportOptions())
    verified = form.verify(path, subject, ExportOptions())
    assert verified.score == pytest.approx(ticket.score, rel=1e-4) and "as stored" in verified.sentence
    found = evaluate_file(path, data, "spots")
    assert (found.task, found.metric, found.accuracy, found.low) == ("regress", "rmse", None, None)
    assert found.score == pytest.approx(ticket.score, rel=1e-4) and found.stored == ticket.score
    assert set(found.figures) == {"rmse", "r2", "loss"} and found.images == len(data.test_inputs)
    other = attrs.evolve(subject, ticket=attrs.evolve(ticket, metrics={**ticket.metrics, "score": 1.3 * found.score}))
    if suffix != ".safetensors":
        with pytest.raises(VerificationError, match=r"has a RMSE .* on the test set, and its run a RMSE"):
            form.verify(path, other, ExportOptions())


def test_state_dict_refuses_tokens_with_a_way_out(tmp_path: Path) -> None:
    subject = subject_of("reader")
    with pytest.raises(TicketError, match="--format state-dict writes code") as raised:
        FORMATS["state-dict"].write(subject, tmp_path / "t", ExportOptions())
    assert "--format ticket" in (raised.value.hint or "")


def test_figures_of_all_outputs_are_those_of_an_evaluation() -> None:
    data, ticket = spots(), regression_ticket()
    with torch.no_grad():
        outputs = ticket.network()(data.preprocess()(data.test_inputs))
    found = figures_of(data.task, outputs, data.test_targets)
    assert found["rmse"] == pytest.approx(ticket.score)
