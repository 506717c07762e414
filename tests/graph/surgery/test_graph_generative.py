"""Networks with several parts, parts that are called twice, transposed convolutions, noise and several outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from generated_images import NAMES, SHAPE, network
from graph_oracle import make_weights_distinct, outputs, random_thinning, relative_difference, zeroed_reference
from torch import Tensor, nn

from tickdsl.graph import ModelGraph, Structure, compact
from tickdsl.graph.costs import cost
from tickdsl.graph.tracing.trace import trace

IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def traced(name: str) -> tuple[nn.Module, ModelGraph]:
    model = make_weights_distinct(network(name)).eval()
    return model, trace(model, (IMAGES,))


def run(model: nn.Module) -> list[Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return outputs(model(IMAGES))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_network_computes_what_the_masked_one_does(name: str, seed: int) -> None:
    model, graph = traced(name)
    assert not graph.unknown
    structure = random_thinning(graph, 0.5, seed)
    small = compact(model, graph, structure)
    expected = run(zeroed_reference(model, graph, structure))
    assert relative_difference(run(small), expected) < 1e-6
    assert relative_difference(run(small), run(model)) > 1e-3
    assert sum(p.numel() for p in small.parameters()) == cost(graph, structure).params


@pytest.mark.parametrize(
    ("name", "prefix", "kept"),
    [
        ("dcgan", "generator.", lambda output: output.real),
        ("dcgan", "discriminator.", lambda output: output.generated),
        ("conv-vae", "decoder.", lambda output: output.mean),
    ],
)
def test_removing_channels_of_one_part_leaves_the_other_parts_alone(
    name: str, prefix: str, kept: Callable[[object], Tensor]
) -> None:
    model, graph = traced(name)
    free = [group.name for group in graph.channels if group.reason is None and group.name.startswith(prefix)]
    structure = random_thinning(graph, 0.5, 0, only=free)
    small = compact(model, graph, structure)
    sizes = {
        path: sum(p.numel() for p in part.parameters())
        == sum(p.numel() for p in small.get_submodule(path).parameters())
        for path, part in model.named_children()
    }
    assert sizes == {path: f"{path}." != prefix for path in sizes}
    with torch.no_grad():
        results = []
        for each in (model, small):
            torch.manual_seed(0)
            results.append(kept(each(IMAGES)))
    assert torch.equal(*results)


def test_the_multiply_adds_of_a_gan_are_those_of_a_test() -> None:
    """The generator once, the discriminator for real and for generated images."""
    model, graph = traced("dcgan")
    dense = Structure.dense(graph)
    by_part = {
        path: cost(part_graph, Structure.dense(part_graph)).macs
        for path, part_graph in (
            ("generator", trace(model.generator, (torch.zeros(2, model.latent),))),
            ("discriminator", trace(model.discriminator, (IMAGES,))),
        )
    }
    assert cost(graph, dense).macs == by_part["generator"] + 2 * by_part["discriminator"]


def test_the_decoder_of_a_vae_and_the_generator_of_a_gan_have_the_same_layers() -> None:
    decoder, generator = network("conv-vae").decoder.state_dict(), network("dcgan").generator.state_dict()
    assert {name: t.shape for name, t in decoder.items()} == {name: t.shape for name, t in generator.items()}


def test_what_the_posterior_returns_cannot_be_removed_and_the_code_of_an_autoencoder_can() -> None:
    (vae,) = (group for group in traced("vae")[1].channels if group.name == "encoder.mean")
    (plain,) = (group for group in traced("autoencoder")[1].channels if group.name == "encoder.fc3")
    assert vae.reason == "the network's output" and plain.reason is None
    assert set(vae.producers) == {"encoder.mean", "encoder.log_variance"}
