"""Plain weights with generated code: the code builds every network of tickdsl, also without some of its blocks."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import attrs
import pytest
import torch
from exported_tickets import catalogue_ticket, own_ticket
from torch import nn

from tickdsl.errors import TicketError
from tickdsl.graph.surgery.compact import compact
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.state_dict import CODE, write_state_dict
from tickdsl.tickets.rebuilding import dense_network_of, probe_outputs
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.catalogue import MODELS

BUILTIN = tuple(name for name, info in MODELS.items() if info.is_builtin and info.inputs == "images")
#: Networks with attention, for which no code is written.
REFUSED = ("vit",)
FAST = ("small-cnn", "lenet-300-100", "lenet5", "conv2", "resnet20", "vgg11", "conv-vae", "dcgan")


def check(ticket: Ticket, network: nn.Module, folder: Path) -> None:
    """Write a network, and compare what the code beside the weights builds with it."""
    subject = Subject(ticket=ticket, network=network, test=TestInputs.random(ticket.preprocessing))
    write_state_dict(subject, folder, ExportOptions())
    spec = importlib.util.spec_from_file_location("exported_network", folder / CODE)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    built = code.load(folder / "weights.safetensors")
    assert torch.equal(probe_outputs(built, ticket.preprocessing), probe_outputs(network, ticket.preprocessing))
    assert tuple(code.CLASSES) == ticket.classes
    images = subject.test.inputs
    assert torch.allclose(code.normalize(images / 255), ticket.preprocess(images), atol=1e-4)
    assert "tickdsl" not in {name.partition(".")[0] for name in vars(code)}


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BUILTIN if name not in REFUSED],
)
def test_every_network_of_tickdsl_is_built(name: str, tmp_path: Path) -> None:
    check(*catalogue_ticket(name), tmp_path / "weights")


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_no_code_is_written_for_are_refused(name: str, tmp_path: Path) -> None:
    ticket, network = catalogue_ticket(name)
    subject = Subject(ticket=ticket, network=network, test=TestInputs.random(ticket.preprocessing))
    with pytest.raises(TicketError, match=f"no code can be written for `Embedding` in the pruned `{name}`"):
        write_state_dict(subject, tmp_path / "weights", ExportOptions())
    assert not (tmp_path / "weights").exists()


def test_removed_blocks_and_masks(tmp_path: Path) -> None:
    ticket, _ = catalogue_ticket("resnet20")
    dense = dense_network_of(ticket.source)
    structure = attrs.evolve(ticket.structure, kept={})
    for block in ("layer1.1", "layer3.2"):
        structure = structure.remove_block(block)
    network = compact(dense.module, dense.graph, structure).eval()
    check(attrs.evolve(ticket, structure=structure, weights=network.state_dict()), network, tmp_path / "weights")


@pytest.mark.parametrize("kind", ["own", "torchvision"])
def test_other_networks_are_refused(kind: str, tmp_path: Path) -> None:
    ticket, network = own_ticket("residual")
    if kind == "torchvision":
        source = attrs.evolve(ticket.source, name="resnet18")
    else:
        source = attrs.evolve(ticket.source, name="mine:network", code="x")
    subject = Subject(
        ticket=attrs.evolve(ticket, source=source), network=network, test=TestInputs.random(ticket.preprocessing)
    )
    with pytest.raises(TicketError, match="is not a network of tickdsl's own"):
        write_state_dict(subject, tmp_path / "weights", ExportOptions())
    assert not (tmp_path / "weights").exists()
