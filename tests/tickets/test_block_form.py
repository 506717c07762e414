"""Files of refilled and regrouped tickets that compute only filters and dense blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exported_tickets import preprocessing, thinned_ticket
from exported_tickets import test_images as images_to_test
from torch import nn

from tickdsl.graph.surgery.dense_blocks import block_facts
from tickdsl.tickets.errors import TicketError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.exporting import format_named
from tickdsl.tickets.formats.block_form import network_to_export
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.models import create

SHAPE = (1, 8, 8)


def _subject(*, blocks: bool) -> Subject:
    """A ticket whose second convolution has two dense blocks, or single weights, beside empty filters."""
    torch.manual_seed(0)
    plain, network = thinned_ticket("small-cnn", create("small-cnn", classes=7, shape=SHAPE, seed=0), SHAPE)
    layer = network.get_submodule("conv2")
    assert isinstance(layer, nn.Conv2d)
    stream = np.random.default_rng(0)
    mask = np.zeros((layer.out_channels, layer.weight[0].numel()), bool)
    kernel = layer.weight[0, 0].numel()
    for rows in (slice(0, 7), slice(7, 15)):
        channels = np.repeat(stream.random(layer.in_channels) < 0.4, kernel)  # a block is computed on whole kernels
        mask[rows] = channels if blocks else stream.random(mask[rows].shape) < 0.4
    with torch.no_grad():
        layer.weight.mul_(torch.from_numpy(mask).view_as(layer.weight))
    structure = plain.structure.with_masks(
        {"conv2.weight": np.zeros(plain.structure.extent.shapes["conv2.weight"], bool)}
    )
    ticket = Ticket(
        source=plain.source, structure=structure, weights=network.state_dict(), preprocessing=preprocessing(SHAPE),
        classes=plain.classes, metrics=plain.metrics,
    )  # fmt: skip
    return Subject(ticket=ticket, network=network, test=TestInputs(images_to_test(SHAPE)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pt2", "onnx"])
def test_files_of_blocks_compute_what_the_network_computes(name: str, tmp_path: Path) -> None:
    """`verify` compares the outputs of the file, in a fresh process, with those of the ticket's network."""
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    subject, chosen = _subject(blocks=True), FORMATS[name]
    path, options = tmp_path / f"blocks{chosen.suffix}", ExportOptions(blocks=True)
    chosen.write(subject, path, options)
    chosen.verify(path, subject, options)
    written = network_to_export(subject, options)
    assert set(block_facts(written)) == {"conv2"}
    weights = [sum(p.numel() for p in network.parameters()) for network in (written, subject.network)]
    assert weights[0] < 0.8 * weights[1]


def test_a_ticket_of_single_weights_has_no_blocks_to_write() -> None:
    with pytest.raises(TicketError, match="no layer of this network consists of whole filters"):
        network_to_export(_subject(blocks=False), ExportOptions(blocks=True))


@pytest.mark.parametrize("name", ["ticket", "state-dict"])
def test_other_formats_hold_weights_and_no_computation(name: str) -> None:
    with pytest.raises(TicketError, match="--blocks does not apply to --format"):
        format_named(name, None, ExportOptions(blocks=True))
