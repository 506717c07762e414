"""Networks of timm and transformers: names, initial weights, what they see, and removal that is exact."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from graph_oracle import check_exact, make_weights_distinct, random_thinning
from torch import Tensor, nn

from tickdsl.checks import check_file
from tickdsl.errors import TickdslError
from tickdsl.graph import ModelGraph, trace
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plugins import LIBRARIES, Library, has_foreign_code, network_identity
from tickdsl.training.catalogue import MODELS
from tickdsl.training.models import create
from tickdsl.training.models.transformers import PADDING
from tickdsl.training.torchvision_import import import_torchvision

LENGTH, VOCABULARY = 9, 23
TEXTS = (LENGTH, VOCABULARY)
SMALL = {"layers": 2, "heads": 4, "dim": 32}
#: Name, outputs, input shape and options of networks that are small enough to be built in a test.
NETWORKS = {
    "timm.test_resnet": (7, (1, 32, 32), {}),
    "timm.test_vit": (7, (3, 32, 32), {}),
    "timm.test_efficientnet": (7, (3, 32, 32), {}),
    "timm.test_convnext": (7, (3, 32, 32), {}),
    "hf.vit": (7, (3, 16, 16), {**SMALL, "patch": 4}),
    "hf.deit": (7, (1, 16, 16), {**SMALL, "patch": 4}),
    "hf.bert": (3, TEXTS, SMALL),
    "hf.distilbert": (3, TEXTS, SMALL),
    "hf.gpt2": (VOCABULARY, TEXTS, SMALL),
    "hf.llama": (VOCABULARY, TEXTS, SMALL),
    "hf.qwen2": (3, TEXTS, SMALL),
}


def build(name: str, seed: int = 0, classes: int = 0) -> nn.Module:
    known_classes, shape, options = NETWORKS[name]
    return create(name, classes=classes or known_classes, shape=shape, seed=seed, options=options)


def example(name: str, count: int = 3) -> Tensor:
    shape, rng = NETWORKS[name][1], torch.Generator().manual_seed(0)
    if len(shape) == 2:
        return torch.randint(1, shape[1], (count, shape[0]), generator=rng)
    return torch.randn(count, *shape, generator=rng, dtype=torch.float64)


def errors(folder: Path, model: str) -> list[Diagnostic]:
    plan = folder / "a.plan"
    plan.write_text(f"model {model} on digits\nprune neurons 20%; rewind lr\n")
    return [found for found in check_file(plan).diagnostics if found.severity == "error"]


@functools.cache
def traced(name: str) -> tuple[nn.Module, ModelGraph]:
    network = make_weights_distinct(build(name).double().eval())
    return network, trace(network, (example(name).to("meta"),))


@pytest.mark.slow
def test_the_names_are_those_that_timm_lists() -> None:
    import_torchvision()
    import timm

    assert {*LIBRARIES["timm"].names()} == {*timm.list_models()}


@pytest.mark.slow
def test_the_types_are_those_that_transformers_lists() -> None:
    import_torchvision()
    from transformers.models.auto import modeling_auto

    expected: dict[str, set[str]] = {}
    for table, purpose in (("IMAGE", "images"), ("SEQUENCE", "sequences")):
        for name in getattr(modeling_auto, f"MODEL_FOR_{table}_CLASSIFICATION_MAPPING_NAMES"):
            expected.setdefault(name, set()).add(purpose)
    for name in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        expected.setdefault(name, set()).add("language")
    assert {name: {*purposes} for name, purposes in LIBRARIES["hf"].names().items()} == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_removal_is_exact(name: str) -> None:
    """Half of the units of all groups, against the dense network with the removed values set to zero."""
    network, graph = traced(name)
    exact = [group.name for group in graph.channels if group.reason is None and group.exact]
    assert exact
    check_exact(network, graph, random_thinning(graph, 0.5, only=exact), example(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (_, shape, _) in NETWORKS.items() if len(shape) == 3] + ["hf.bert"])
def test_networks_for_other_numbers_of_classes_share_all_other_weights(name: str) -> None:
    some, more = (build(name, classes=classes).state_dict() for classes in (5, 6))
    assert some.keys() == more.keys()
    other = [key for key in some if some[key].shape != more[key].shape]
    assert other and all(torch.equal(some[key], more[key]) for key in some if key not in other)
    again = build(name, classes=5).state_dict()
    assert all(torch.equal(some[key], again[key]) for key in some)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf.bert", "hf.distilbert", "hf.qwen2"])
def test_padding_is_not_attended_to(name: str) -> None:
    """As the original class does with its own mask; and more padding changes nothing."""
    network = build(name).eval()
    texts = example(name)
    texts[0, 5:] = PADDING
    outputs = network(texts)
    original = type(network).__mro__[1]
    network.set_attn_implementation("eager")  # type: ignore[operator]
    expected = original.forward(network, input_ids=texts, attention_mask=(texts != PADDING).long()).logits  # type: ignore[attr-defined]
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-4)
    alone = build(name).eval()(texts[:1, :5])
    torch.testing.assert_close(outputs[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_next_token_does_not_depend_on_later_ones() -> None:
    network, texts = build("hf.gpt2").eval(), example("hf.gpt2")
    before = network(texts)
    texts[:, -1] = 1
    assert before.shape == (3, LENGTH, VOCABULARY)
    torch.testing.assert_close(network(texts)[:, :-1], before[:, :-1])


@pytest.mark.slow
def test_head_says_what_the_outputs_are() -> None:
    shape = (LENGTH, VOCABULARY)
    answers = create("hf.bert", classes=VOCABULARY, shape=shape, seed=0, options={**SMALL, "head": "classify"})
    assert answers.eval()(example("hf.bert")).shape == (3, VOCABULARY)


@pytest.mark.slow
def test_a_folder_gives_configuration_and_weights(tmp_path: Path) -> None:
    import_torchvision()
    import transformers

    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=32, pad_token_id=PADDING,
    )  # fmt: skip
    saved = transformers.BertForSequenceClassification(config).eval()
    saved.save_pretrained(tmp_path)
    options = {"config": str(tmp_path)}
    fresh = create("hf.bert", classes=2, shape=TEXTS, seed=0, options=options)
    loaded = create("hf.bert", classes=2, shape=TEXTS, seed=0, options={**options, "weights": "default"})
    body = {name: tensor for name, tensor in saved.state_dict().items() if not name.startswith("classifier")}
    assert {name: tensor.shape for name, tensor in fresh.state_dict().items()} == {
        name: tensor.shape for name, tensor in saved.state_dict().items()
    }
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in body.items())
    assert not all(torch.equal(fresh.state_dict()[name], tensor) for name, tensor in body.items())
    with pytest.raises(TickdslError, match="is that of a bert, not of a roberta"):
        create("hf.roberta", classes=2, shape=TEXTS, seed=0, options=options)


def test_the_identity_of_a_network_names_the_release_and_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    options = {"config": str(tmp_path)}
    plain, configured = network_identity("hf.bert", {}), network_identity("hf.bert", options)
    assert plain == f"hf.bert transformers {LIBRARIES['hf'].version}" and configured.startswith(plain)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 12}))
    assert network_identity("hf.bert", options) != configured != plain
    assert network_identity("small-cnn", {}) == "" and not has_foreign_code("small-cnn")
    assert has_foreign_code("timm.resnet18") and not has_foreign_code("torchvision.resnet18")


@pytest.mark.parametrize("name", ["timm.resnet18", "hf.bert"])
def test_a_library_that_is_not_installed_is_one_finding_with_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Library, "is_installed", property(lambda library: False))
    (found,) = errors(tmp_path, name)
    assert found.code == "TD483" and found.span.line == 1 and found.span.column == 7
    assert found.help == f'install it: pip install "tickdsl[{name.partition(".")[0]}]"'


def test_an_unknown_name_of_a_library_has_a_suggestion(tmp_path: Path) -> None:
    (found,) = errors(tmp_path, "timm.resnet19")
    assert found.code == "TD101" and "timm.resnet1" in found.label and "--list timm" in (found.help or "")


def test_completion_offers_the_networks_of_installed_libraries() -> None:
    pytest.importorskip("pygls")
    from tickdsl.lsp.completions import DefinedNames, complete
    from tickdsl.lsp.cursor import locate

    place = locate("model ", len("model "))
    assert place is not None
    offered = {entry.word: entry for entry in complete(place, DefinedNames({}, {}))}
    assert "language" in offered["hf.gpt2"].detail and "images" in offered["timm.resnet18"].detail


def test_the_list_of_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    from tickdsl.cli import main

    assert main(["graph", "--list", "hf"]) == 0
    assert "hf.distilbert" in capsys.readouterr().out
    assert main(["graph", "--list"]) == 0
    assert "networks of timm" in capsys.readouterr().out
    assert main(["graph", "--list", "keras"]) != 0


def test_what_a_network_takes_is_known_without_building_it(tmp_path: Path) -> None:
    assert MODELS["timm.resnet18.a1_in1k"].inputs == "images"
    assert (MODELS["hf.vit"].inputs, MODELS["hf.bert"].inputs) == ("images", "tokens")
    assert "language" in MODELS["hf.gpt2"].tasks and "language" not in MODELS["hf.distilbert"].tasks
    (found,) = errors(tmp_path, "hf.bert")
    assert found.code == "TD472"
