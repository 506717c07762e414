"""Files of networks that draw random numbers: noise is an input, and a GAN's file holds its generator."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import attrs
import pytest
import torch
from generated_images import column_features, digits
from plan_tickets import plan_ticket
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.graph import Structure, compact
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.evaluating import evaluate_file
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.drawn_noise import GivenDraws, NormalDraws, RecordedDraws, drawn_shapes
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.judges import judge_for
from tickdsl.tickets.outputs import describe_outputs
from tickdsl.tickets.preprocessing import Preprocessing, preprocessing_of
from tickdsl.tickets.rebuilding import dense_network_of, run_probe
from tickdsl.tickets.ticket import Ticket
from tickdsl.tickets.ticket_file import write_ticket
from tickdsl.training.data import datasets
from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import Generate, find_task

IMAGES = Preprocessing(1, 8, 8, (0.3,), (0.4,))
TASKS = {"vae": "vae", "conv-vae": "vae", "dcgan": "generate"}
SUFFIXES = pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=pytest.mark.slow)])


@functools.cache
def subject_of(name: str, kind: str = "compact") -> Subject:
    """An untrained ticket of a network, dense, compact or masked, with the score that it has on the digits."""
    data = digits(TASKS[name])
    options = {"width": 0.25, "latent": 6}
    ticket = plan_ticket(name, options, masks=kind == "masked")
    if kind == "dense":
        dense = dense_network_of(ticket.source)
        structure = Structure.dense(dense.graph)
        weights = compact(dense.module, dense.graph, structure).state_dict()
        ticket = attrs.evolve(ticket, structure=structure, weights=weights)
    ticket = attrs.evolve(ticket, preprocessing=preprocessing_of(data), task=TASKS[name], probe=None)
    network = ticket.network()
    judged = evaluate(network, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task)
    known: Ticket = attrs.evolve(
        ticket,
        outputs=describe_outputs(run_probe(network, ticket.preprocessing), find_task(ticket.task)),
        metrics={"score": judged.score, "metric": data.task.primary.name, "figures": dict(judged.figures)},
    )
    test = TestInputs(data.test_inputs, data.test_targets)
    return Subject(ticket=known, network=network, test=test, task=data.task)


def written(subject: Subject, path: Path, **options: bool) -> Path:
    FORMATS[path.suffix[1:]].write(subject, path, ExportOptions(**options))
    return path


@SUFFIXES
@pytest.mark.parametrize(
    "kind", ["compact", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dense", "masked"))]
)
@pytest.mark.parametrize("name", TASKS)
def test_files_have_the_score_of_the_run(name: str, kind: str, suffix: str, tmp_path: Path) -> None:
    subject = subject_of(name, kind)
    path = written(subject, tmp_path / f"t{suffix}")
    verified = FORMATS[suffix[1:]].verify(path, subject, ExportOptions())
    assert verified.score == pytest.approx(subject.ticket.score, rel=1e-4) and "as stored" in verified.sentence


@SUFFIXES
@pytest.mark.parametrize("name", ["conv-vae", "dcgan"])
def test_a_file_of_other_weights_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    subject = subject_of(name)
    network = subject.ticket.network()
    path = written(attrs.evolve(subject, network=network), tmp_path / f"t{suffix}")
    with torch.no_grad():
        network.get_submodule("generator" if name == "dcgan" else "decoder").get_parameter("deconv3.bias").add_(0.5)
    with pytest.raises(VerificationError, match="differ from those of its network"):
        FORMATS[suffix[1:]].verify(path, attrs.evolve(subject, network=network), ExportOptions())


def test_a_generator_makes_images_of_noise(tmp_path: Path) -> None:
    """In 0 to 1, and with `--raw` as the generator makes them; of any number."""
    subject = subject_of("dcgan")
    z = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = subject.network.get_submodule("generator")(z)
    for raw in (False, True):
        path = written(subject, tmp_path / "t.pt2", raw=raw)
        extra = {"ticket.json": ""}
        program = torch.export.load(path, extra_files=extra).module()
        about = json.loads(extra["ticket.json"])
        (taken,), (returned,) = json.loads(about["inputs"]), json.loads(about["outputs"])
        assert (json.loads(about["part"]), taken["name"], taken["shape"]) == ("generator", "z", [6])
        assert (returned["name"], returned["shape"]) == ("images", [1, 8, 8])
        made = program(z).detach()
        assert torch.allclose(made if raw else 2 * made - 1, expected, atol=1e-5)
        assert program(z[:1]).shape == (1, 1, 8, 8)
        if not raw:
            assert 0 <= made.min().item() <= made.max().item() <= 1


def test_a_vae_without_noise_decodes_the_mean(tmp_path: Path) -> None:
    subject = subject_of("vae")
    program = torch.export.load(written(subject, tmp_path / "t.pt2")).module()
    images = subject.test.inputs[:3]
    logits, mean, *_ = program(images.float() / 255, torch.zeros(3, 6))
    with torch.no_grad():
        assert torch.allclose(subject.network.get_submodule("decoder")(mean), logits, atol=1e-5)
    shifted, again, *_ = program(images.float() / 255, torch.ones(3, 6))
    assert torch.equal(again, mean) and not torch.allclose(shifted, logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv-vae", "dcgan"])
def test_8_bits_cost_is_said(name: str, tmp_path: Path) -> None:
    subject = subject_of(name)
    path = written(subject, tmp_path / "t.onnx", int8=True)
    sentence = FORMATS["onnx"].verify(path, subject, ExportOptions(int8=True)).sentence
    assert "with 8-bit weights: " in sentence and "instead of" in sentence


@pytest.mark.parametrize(
    "suffix", [".safetensors", *(pytest.param(suffix, marks=pytest.mark.slow) for suffix in (".pt2", ".onnx"))]
)
@pytest.mark.parametrize("name", ["conv-vae", "dcgan"])
def test_files_are_evaluated_with_the_noise_of_a_run(name: str, suffix: str, tmp_path: Path) -> None:
    subject, path = subject_of(name), tmp_path / f"t{suffix}"
    if suffix == ".safetensors":
        write_ticket(subject.ticket, path)
    else:
        written(subject, path)
    data = datasets.load("digits", options={"samples": 60})
    data = attrs.evolve(data, test_inputs=data.test_inputs[:40], test_targets=data.test_targets[:40])
    found = evaluate_file(path, data, "digits", store=tmp_path)
    if name == "conv-vae":
        assert found.score == pytest.approx(subject.ticket.score, rel=1e-4)
        return
    judge = judge_for(data, {}, tmp_path)
    network, generated = subject.network, digits("generate")
    task = Generate(judge.features)
    expected = evaluate(network, data.test_inputs, generated.test_targets, preprocess=generated.preprocess(), task=task)
    assert found.metric == "frechet-distance" and found.score == pytest.approx(expected.score, rel=1e-4)
    assert any("trained on digits now" in note for note in found.notes)
    assert ("loss" in found.figures) is (suffix == ".safetensors")


def test_generated_images_are_not_judged_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_ticket(subject_of("dcgan").ticket, path)
    data = digits("reconstruct")
    with pytest.raises(TickdslError, match="no labels") as raised:
        evaluate_file(path, data, "mine", store=tmp_path)
    assert "labelled data" in (raised.value.hint or "")


class Drawing(nn.Module):
    """Adds noise in a way of its own to what it returns."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.linear, self.way = nn.Linear(64, 6), way

    def forward(self, images: Tensor) -> Tensor:
        mean = self.linear(images.flatten(1))
        draw = {
            "like": lambda: mean + torch.randn_like(mean),
            "sizes": lambda: mean + torch.randn(*mean.shape),
            "normal": lambda: torch.normal(mean, 0.5),
            "normal of two": lambda: torch.normal(mean, mean.abs()),
            "in place": lambda: mean + torch.empty_like(mean).normal_(1.0, 2.0),
            "distribution": lambda: torch.distributions.Normal(mean, 2.0).rsample(),
            "uniform": lambda: mean + torch.rand_like(mean),
            "dropout": lambda: F.dropout(mean, 0.5, training=True),
            "one for all": lambda: mean + torch.randn(6),
            "none": lambda: F.dropout(mean, 0.5, training=False),
        }
        return draw[self.way]()


@pytest.mark.parametrize("way", ["like", "sizes", "normal", "normal of two", "in place", "distribution"])
def test_normal_numbers_are_recorded_and_given(way: str) -> None:
    """Recording changes nothing; what was recorded gives the same outputs again."""
    network, images = Drawing(way), IMAGES(IMAGES.fixed(3))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain, after = network(images), torch.randn(4)
        torch.manual_seed(3)
        with RecordedDraws() as recorded:
            assert torch.equal(network(images), plain)
        assert torch.equal(torch.randn(4), after)
        with GivenDraws(recorded.drawn):
            assert torch.equal(network(images), plain)
    assert drawn_shapes(network, IMAGES) == ((6,),)


@pytest.mark.parametrize("way", ["uniform", "dropout"])
def test_other_random_numbers_are_refused(way: str) -> None:
    with pytest.raises(TickdslError, match=r"draws random numbers with `(rand_like|dropout)`") as raised:
        drawn_shapes(Drawing(way), IMAGES)
    assert "--format ticket" in (raised.value.hint or "")


def test_numbers_for_all_inputs_are_refused() -> None:
    with pytest.raises(TickdslError, match="not one set for each input"):
        drawn_shapes(Drawing("one for all"), IMAGES)
    assert drawn_shapes(Drawing("none"), IMAGES) == ()
    with pytest.raises(NotImplementedError), NormalDraws():
        torch.randn(2)


def test_features_of_the_run_judge_where_they_are_known() -> None:
    assert subject_of("dcgan").task.known_features is column_features  # type: ignore[attr-defined]
