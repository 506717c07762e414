"""A ticket that was written and read again computes the same, bit for bit; files that are no tickets are refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from exported_tickets import CLASSES, OWN, OWN_SHAPE, catalogue_ticket, image_shape, own_ticket, preprocessing
from graph_oracle import random_thinning
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import STEPS, RandomNetwork
from safetensors.torch import save_file
from torch import Tensor, nn

import tickdsl
from tickdsl.errors import TicketError
from tickdsl.graph import Structure, StructureError, compact, trace
from tickdsl.graph.indexing import all_kept_indices
from tickdsl.pruning import ticket_content
from tickdsl.tickets.network_source import NetworkSource
from tickdsl.tickets.rebuilding import dense_network_of, probe_inputs, probe_outputs
from tickdsl.tickets.ticket import Origin, Ticket
from tickdsl.tickets.ticket_file import load, open_ticket, ticket_bytes, write_ticket
from tickdsl.training.catalogue import MODELS

BUILTIN = tuple(name for name, info in MODELS.items() if info.is_builtin and info.inputs == "images")
#: One of each family; the others are like them, and slow.
FAST = ("small-cnn", "lenet-300-100", "lenet5", "conv2", "resnet20", "vgg11")
#: Networks of gigabytes, of which several copies would not fit into memory.
HUGE = frozenset({"regnet_y_128gf", "vit_h_14"})
TORCHVISION = tuple(
    name
    for name, info in MODELS.builtin.items()
    if not info.is_builtin and not name.startswith("torchvision.") and name not in HUGE
)


def bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.contiguous().flatten().view(torch.uint8).tolist()


def check_round_trip(
    ticket: Ticket, network: nn.Module, path: Path, *, sparse: bool = False, factory: Callable[..., Any] | None = None
) -> Ticket:
    """Write and read a ticket; weights, outputs and the file itself must have the same bits again."""
    assert write_ticket(ticket, path, sparse=sparse) == path.stat().st_size
    read = open_ticket(path)
    assert read.structure == ticket.structure
    assert {name: bits(tensor) for name, tensor in read.weights.items()} == {
        name: bits(tensor) for name, tensor in ticket.weights.items()
    }
    assert (read.source, read.preprocessing, read.classes) == (ticket.source, ticket.preprocessing, ticket.classes)
    rebuilt = read.network(factory)
    images = probe_inputs(ticket.preprocessing)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), network.eval()(images))
    assert ticket_bytes(read, sparse=sparse) == path.read_bytes()
    return read


def with_blocks_and_masks(name: str) -> tuple[Ticket, nn.Module]:
    """A ticket of the catalogue that lost units, every second removable block, and half of the entries of a weight."""
    ticket, _ = catalogue_ticket(name)
    dense = dense_network_of(ticket.source)
    structure = ticket.structure
    for block in [block.name for block in dense.graph.blocks if block.reason is None][::2]:
        with contextlib.suppress(StructureError):  # its channels would be tied to others that keep other units
            all_kept_indices(dense.graph, structure.remove_block(block))
            structure = structure.remove_block(block)
    weight = max(dense.graph.weights)
    mask = np.random.default_rng(0).random(dense.graph.parameters[weight]) < 0.5
    structure = structure.with_masks({weight: mask})
    network = compact(dense.module, dense.graph, structure).eval()
    probe = probe_outputs(network, ticket.preprocessing)
    return attrs.evolve(ticket, structure=structure, weights=network.state_dict(), probe=probe), network


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in BUILTIN]
)
def test_every_network_of_tickdsl_comes_back(name: str, tmp_path: Path) -> None:
    check_round_trip(*with_blocks_and_masks(name), tmp_path / "ticket.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_network_of_torchvision_comes_back(name: str, tmp_path: Path) -> None:
    check_round_trip(*with_blocks_and_masks(name), tmp_path / "ticket.safetensors")


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.parametrize("sparse", [False, True])
def test_networks_of_users_come_back_with_their_class(kind: str, sparse: bool, tmp_path: Path) -> None:
    ticket, network = own_ticket(kind)
    check_round_trip(ticket, network, tmp_path / "ticket.safetensors", sparse=sparse, factory=OWN[kind])


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=6), st.integers(0, 1000), st.sampled_from([0.0, 0.3, 0.8]),
    st.booleans(),
)  # fmt: skip
def test_random_networks_come_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int, share: float, sparse: bool
) -> None:
    model = RandomNetwork(steps, seed).eval()
    graph = trace(model, torch.zeros(2, 3, 6, 6))
    structure = random_thinning(graph, share, seed)
    draw = np.random.default_rng(seed)
    structure = structure.with_masks(
        {name: draw.random(graph.parameters[name]) < 0.4 for name in graph.weights if draw.random() < 0.5}
    )
    network = compact(model, graph, structure).eval()
    prepared = preprocessing((3, 6, 6))
    ticket = Ticket(
        source=NetworkSource("own:network", {}, 3, (3, 6, 6), "own"),
        structure=structure,
        weights=network.state_dict(),
        preprocessing=prepared,
        probe=probe_outputs(network, prepared),
    )
    path = tmp_path_factory.mktemp("random") / "ticket.safetensors"

    def with_other_weights() -> nn.Module:
        other = RandomNetwork(steps, seed)
        for parameter in other.parameters():
            nn.init.normal_(parameter)
        return other

    check_round_trip(ticket, network, path, sparse=sparse, factory=with_other_weights)


def test_what_is_known_of_a_ticket_comes_back(tmp_path: Path) -> None:
    ticket, network = catalogue_ticket("small-cnn")
    origin = Origin(run="r", arm="a[x=☃]", level=3, seed=7, sweep={"x": "☃"}, keys={"result": "ab"}, made={"host": "h"})
    ticket = attrs.evolve(
        ticket,
        origin=origin,
        versions={"torch": "2"},
        metrics={"accuracy": 0.5, "loss": float("nan"), "interval": None},
    )
    read = check_round_trip(ticket, network, tmp_path / "x.safetensors")
    assert (read.origin, read.versions, read.plan) == (origin, {"torch": "2"}, ticket.plan)
    assert read.metrics == {"accuracy": 0.5, "loss": None, "interval": None}, "JSON has no NaN"
    assert repr(read) == "<Ticket: small-cnn, a[x=☃], round 3, seed 7, accuracy 50.00%>"


def test_the_weights_of_a_ticket_are_a_plain_state_dict(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    ticket, _ = catalogue_ticket("small-cnn")
    write_ticket(ticket, tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    assert {name for name in tensors if not name.startswith("tickdsl/")} == set(ticket.weights)


def test_sparse_files_of_masked_networks_are_smaller() -> None:
    source = NetworkSource("lenet-300-100", {"width": 0.2}, CLASSES, (1, 28, 28))
    dense = dense_network_of(source)
    rng = np.random.default_rng(0)
    structure = Structure.dense(dense.graph).with_masks(
        {name: rng.random(dense.graph.parameters[name]) < 0.05 for name in dense.graph.weights}
    )
    weights = compact(dense.module, dense.graph, structure).state_dict()
    ticket = Ticket(source=source, structure=structure, weights=weights, preprocessing=preprocessing((1, 28, 28)))
    sizes = [len(ticket_bytes(ticket, sparse=sparse)) for sparse in (False, True)]
    assert sizes[1] < sizes[0] / 5


def test_the_top_level_loads_a_ticket(tmp_path: Path) -> None:
    ticket, network = catalogue_ticket("small-cnn")
    write_ticket(ticket, tmp_path / "x.safetensors")
    images = torch.rand(5, *image_shape("small-cnn"))
    read = tickdsl.open_ticket(tmp_path / "x.safetensors")
    loaded = tickdsl.load(tmp_path / "x.safetensors")
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(read.preprocess(images)), network(ticket.preprocess(images)))


# -- networks that are missing or were changed


def own_file(folder: Path, kind: str = "residual") -> Path:
    """The file of an own network, named by a module that exists nowhere."""
    ticket, network = own_ticket(kind)
    source = NetworkSource("nowhere_at_all:network", {}, CLASSES, OWN_SHAPE, "code")
    path = folder / "own.safetensors"
    write_ticket(attrs.evolve(ticket, source=source, probe=probe_outputs(network, ticket.preprocessing)), path)
    return path


def test_an_own_network_needs_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tickdsl.plugins.permission._allowed", False)
    with pytest.raises(TicketError, match="code of its user and needs permission") as caught:
        load(own_file(tmp_path))
    assert "tickdsl.load(path, network=network)" in (caught.value.hint or "")


def test_an_own_network_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tickdsl.plugins.permission._allowed", True)
    with pytest.raises(TicketError, match="cannot be built: `nowhere_at_all:network`: no module `nowhere_at_all`"):
        load(own_file(tmp_path))


def test_a_network_with_other_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="is not the one that this ticket was written with: "):
        load(own_file(tmp_path), network=OWN["masked"])


def test_a_network_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    class Changed(OWN["residual"]):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(-1))

    class Broken(OWN["residual"]):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            if not x.is_meta:
                raise KeyError("gone")
            return super().forward(x)

    with pytest.raises(TicketError, match="with the same weights it computes other outputs"):
        load(own_file(tmp_path), network=Changed)
    with pytest.raises(TicketError, match="is not the one that this ticket was written with"):
        load(own_file(tmp_path), network=Broken)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: "no network", "`network` returns str, not a network"),
        (lambda classes, shape: 1 / 0, "the factory of the network raised ZeroDivisionError"),
    ],
)
def test_factories_that_fail(factory: Callable[..., Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(TicketError, match=message):
        load(own_file(tmp_path), network=factory)


def test_a_factory_gets_classes_shape_and_options(tmp_path: Path) -> None:
    calls: list[Any] = []

    def factory(classes: int, shape: tuple[int, int, int], some_width: int = 1) -> nn.Module:
        calls.append((classes, shape, some_width))
        return OWN["residual"]()

    ticket, _ = own_ticket("residual")
    source = NetworkSource("own:factory", {"some-width": 3}, CLASSES, OWN_SHAPE, "code")
    write_ticket(attrs.evolve(ticket, source=source), tmp_path / "x.safetensors")
    load(tmp_path / "x.safetensors", network=factory)
    load(tmp_path / "x.safetensors", network=OWN["residual"]())
    assert calls == [(CLASSES, OWN_SHAPE, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "small-cnn-of-old"}, "the network of this ticket cannot be built: unknown model"),
        ({"options": {"width": 2.0}}, r"is not the one that this ticket was written with \(tickdsl 0.0.7\): "),
        ({"options": {"depth": 2}}, "the network of this ticket cannot be built: small-cnn has no option `depth`"),
    ],
)
def test_a_network_of_another_version(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    ticket, _ = catalogue_ticket("small-cnn")
    source = attrs.evolve(ticket.source, **change)
    write_ticket(attrs.evolve(ticket, source=source, versions={"tickdsl": "0.0.7"}), tmp_path / "x.safetensors")
    with pytest.raises(TicketError, match=message):
        load(tmp_path / "x.safetensors")


# -- files that are damaged, or no tickets


@pytest.fixture(scope="module")
def good() -> bytes:
    ticket, _ = own_ticket("masked")
    return ticket_bytes(ticket, sparse=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_damage_is_noticed(good: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    damaged = bytearray(good)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(good) - 1)) :]
    else:
        place = data.draw(st.integers(0, len(good) - 1))
        damaged[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    path.write_bytes(damaged)
    with pytest.raises(TicketError):
        open_ticket(path)


FOREIGN = {
    "nothing": (b"", "is empty"),
    "a page": (b"<!DOCTYPE html><p>", "is a web page, not a ticket"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1", "is a pointer of Git LFS, not the file itself"),
    "a pickle": (b"\x80\x02}q\x00.", "is a pickle, not a ticket"),
    "a zip": (b"PK\x03\x04....", "is a zip archive"),
    "text": (b"hello", "is not a ticket"),
    "a header that is none": (b'\x09\0\0\0\0\0\0\0{"a": 1 }', "is damaged: its header is not valid"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files_are_refused(kind: str, tmp_path: Path) -> None:
    content, message = FOREIGN[kind]
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for read in (open_ticket, ticket_content.read_description):
        with pytest.raises(TicketError, match=message):
            read(path)
    assert not ticket_content.is_ticket(path)


def test_weights_that_are_no_ticket(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(TicketError, match="holds weights, but is not a ticket"):
        open_ticket(tmp_path / "x.safetensors")
    Structure.dense(trace(OWN["masked"](), torch.zeros(2, *OWN_SHAPE))).save(tmp_path / "y.safetensors")
    with pytest.raises(TicketError, match="holds weights, but is not a ticket"):
        open_ticket(tmp_path / "y.safetensors")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TicketError, match="there is no file"):
        open_ticket(tmp_path / "x.safetensors")
    with pytest.raises(TicketError, match="is a folder, not a ticket"):
        open_ticket(tmp_path)


def test_a_ticket_of_another_format(good: bytes, tmp_path: Path) -> None:
    length = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + length])
    header["__metadata__"]["tickdsl-ticket"] = "2"
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + good[8 + length :])
    with pytest.raises(TicketError, match=r"another version of tickdsl \(ticket format 2, not 1\)"):
        open_ticket(path)
    assert ticket_content.is_ticket(path)


def test_the_description_is_read_without_the_tensors(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(good)
    about = ticket_content.read_description(path)
    assert about["network"]["name"] == "masked"
    assert about["structure"]["removed_blocks"] == []
