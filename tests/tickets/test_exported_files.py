"""Tickets as .pt2 and .onnx files compute what their networks do, for batches of any size, and say what they are."""

from __future__ import annotations

import importlib.util
import json
import resource
import signal
from pathlib import Path

import exported_tickets
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_tickets import OWN, catalogue_ticket, own_ticket, thinned_ticket
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.int8 import quantise_weights
from tickdsl.tickets.formats.onnx import OPSET, write_onnx
from tickdsl.tickets.formats.pt2 import read_pt2_metadata, write_pt2
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.catalogue import MODELS
from tickdsl.training.data.preprocess import Normalise

WRITERS = {".pt2": write_pt2, ".onnx": write_onnx}
SLOW = pytest.mark.slow
#: Both formats, the one that takes seconds among the slow tests.
SUFFIXES = (".pt2", pytest.param(".onnx", marks=SLOW))
BUILTIN = tuple(name for name, info in MODELS.items() if info.is_builtin and info.inputs == "images")
#: One network of each of torchvision's families, the smallest that it has.
FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn",
    "vit_b_32", "wide_resnet50_2",
)  # fmt: skip

#: Too large for a machine with 16 GB of memory: network, compact network, file and outputs are there at once.
HUGE = frozenset({"regnet_y_128gf", "vit_h_14"})
OTHERS = tuple(
    name
    for name, info in MODELS.items()
    if name not in {*BUILTIN, *FAMILIES, *HUGE} and info.inputs == "images" and not name.startswith("torchvision.")
)


def run(path: Path, images: Tensor) -> Tensor:
    """The logits of a file, in this process."""
    if path.suffix == ".pt2":
        with torch.no_grad():
            return torch.export.load(path).module()(images)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write(ticket: Ticket, path: Path, network: nn.Module, *, raw: bool = False) -> None:
    """Write a network with the metadata of a ticket."""
    subject = Subject(ticket=ticket, network=network, test=TestInputs.random(ticket.preprocessing))
    WRITERS[path.suffix](subject, path, ExportOptions(raw=raw))


def check(name: str, suffix: str, folder: Path) -> None:
    """Export a ticket, and compare its outputs for batches of 1, 7 and 64 images with those of its network."""
    ticket, network = own_ticket(name) if name in OWN else catalogue_ticket(name)
    path = folder / f"ticket{suffix}"
    write(ticket, path, network)
    assert list(folder.iterdir()) == [path]
    pixels = exported_tickets.test_images(ticket.preprocessing.shape, 64 if network_is_small(ticket) else 7)
    for count in (1, 7, 64)[: 3 if len(pixels) == 64 else 2]:
        with torch.no_grad():
            expected = network(ticket.preprocess(pixels[:count]))
        assert len(expected) == count
        difference = (run(path, pixels[:count] / 255) - expected).abs().max()
        assert difference <= 1e-4 * expected.abs().max(), count


def network_is_small(ticket: Ticket) -> bool:
    return ticket.preprocessing.height <= 64 and ticket.metrics["params"] < 5_000_000


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, ".pt2") for name in ("small-cnn", *OWN)] + [("rewritten", ".onnx")]
)
def test_files_compute_what_their_network_does(name: str, suffix: str, tmp_path: Path) -> None:
    check(name, suffix, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", [*OWN, *BUILTIN, *FAMILIES])
def test_every_family_of_networks_is_exported(name: str, suffix: str, tmp_path: Path) -> None:
    check(name, suffix, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_network_is_exported(name: str, suffix: str, tmp_path: Path) -> None:
    check(name, suffix, tmp_path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_normalising_inside_is_what_the_training_does(suffix: str, tmp_path: Path) -> None:
    """A network that returns its input shows what reaches it."""
    ticket, _ = thinned_ticket("identity", nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2)), (3, 4, 4))
    path = tmp_path / f"ticket{suffix}"
    write(ticket, path, nn.Flatten())
    pixels = torch.arange(3 * 256).view(16, 3, 4, 4).remainder(256).byte()
    mean, std = torch.tensor(ticket.preprocessing.mean), torch.tensor(ticket.preprocessing.std)
    expected = Normalise(mean, std, torch.device("cpu"))(pixels).flatten(1)
    actual = run(path, pixels / 255)
    assert torch.equal(actual, expected) if suffix == ".pt2" else torch.allclose(actual, expected, atol=1e-6)
    write(ticket, path, nn.Flatten(), raw=True)
    assert torch.equal(run(path, expected.view(16, 3, 4, 4)), expected)


@pytest.mark.parametrize("raw", [False, pytest.param(True, marks=SLOW)])
def test_both_formats_hold_the_same_metadata(raw: bool, tmp_path: Path) -> None:
    ticket, network = own_ticket("residual")
    for suffix in WRITERS:
        write(ticket, tmp_path / f"ticket{suffix}", network, raw=raw)
    metadata = read_pt2_metadata(tmp_path / "ticket.pt2")
    session = onnxruntime.InferenceSession(tmp_path / "ticket.onnx")
    assert session.get_modelmeta().custom_metadata_map == metadata
    assert json.loads(metadata["classes"]) == list(ticket.classes)
    shown = {**ticket.preprocessing.as_json(), "inside": not raw}
    assert json.loads(metadata["preprocessing"]) == shown
    assert (metadata["network"], metadata["plan"]) == ("residual", ticket.plan)
    assert json.loads(metadata["accuracy"]) == 0.5
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape, logits.name, logits.shape) == (
        "images",
        ["batch", 1, 8, 8],
        "logits",
        ["batch", 10],
    )
    assert [(o.domain, o.version) for o in onnx.load(tmp_path / "ticket.onnx").opset_import] == [("", OPSET)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_name_no_path_of_this_machine(suffix: str, tmp_path: Path) -> None:
    ticket, network = own_ticket("rewritten")
    path = tmp_path / f"ticket{suffix}"
    write(ticket, path, network)
    content = path.read_bytes()
    assert str(Path(__file__).parent.parent).encode() not in content
    assert torch.__file__.encode() not in content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_an_error_of_the_disk(suffix: str, tmp_path: Path) -> None:
    """Such errors are told to the user by `exporting`, which also removes what was written."""
    ticket, network = own_ticket("residual")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write(ticket, tmp_path / f"ticket{suffix}", network)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


class Attention(nn.Module):
    """Its weights of queries, keys and values are one tensor, which is split where channels are removed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1, 2))
        return self.fc(self.attend(x, x, x, need_weights=False)[0].mean(1))


@pytest.mark.slow
def test_the_weights_of_attention_are_quantised(tmp_path: Path) -> None:
    ticket, network = thinned_ticket("attention", Attention(), (1, 8, 8))
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    write(ticket, source, network)
    quantise_weights(source, target)
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(target).graph.initializer}
    assert stored["network.attend.in_proj_weight.int8"] == onnx.TensorProto.INT8
    images = exported_tickets.test_images((1, 8, 8), 7) / 255
    expected = run(source, images)
    assert (run(target, images) - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.slow
def test_weights_that_are_not_finite_are_not_quantised(tmp_path: Path) -> None:
    ticket, network = own_ticket("masked")
    with torch.no_grad():
        network[6].weight[0, 0] = float("nan")
    write(ticket, tmp_path / "float.onnx", network)
    with pytest.raises(TickdslError, match=r"`network\.6\.weight` is not finite.*\n.*leave out --int8"):
        quantise_weights(tmp_path / "float.onnx", tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


class Forward(nn.Module):
    """A network with the `forward` of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 10)


class DecidesByValues(Forward):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)) if x.sum() > 0 else self.fc(-x.flatten(1))


class OneBatchSize(Forward):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(2, 64))


class TwoOutputs(Forward):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.fc(x.flatten(1)), x


class LeavesTorch(Forward):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.from_numpy(x.detach().numpy()).flatten(1))


class HasNoOnnxOperator(Forward):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.linalg.qr(x.squeeze(1))[0].flatten(1))


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (DecidesByValues, "its code decides by the values of its input"),
        (OneBatchSize, "its code works for one batch size only"),
        (TwoOutputs, "returns something other than one tensor of logits"),
        (LeavesTorch, "RuntimeError: .numpy() is not supported"),
    ],
)
def test_what_torch_cannot_export_is_refused(
    network: type[Forward], reason: str, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ticket, _ = own_ticket("residual")
    with pytest.raises(TickdslError) as error:
        write(ticket, tmp_path / f"ticket{suffix}", network())
    assert reason in error.value.message and network.__name__ in error.value.message
    assert "\n" not in error.value.message
    assert "--format ticket" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_onnx_cannot_translate_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ticket, _ = own_ticket("residual")
    write(ticket, tmp_path / "ticket.pt2", HasNoOnnxOperator())
    with pytest.raises(TickdslError, match=r"ONNX cannot take the network HasNoOnnxOperator: .*linalg.*qr") as error:
        write(ticket, tmp_path / "ticket.onnx", HasNoOnnxOperator())
    assert "\n" not in error.value.message
    assert error.value.hint == "use `--format pt2`"
    assert [path.name for path in tmp_path.iterdir()] == ["ticket.pt2"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("missing", ["onnxscript", "onnxruntime"])
def test_a_missing_extra_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticket, network = own_ticket("residual")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(TickdslError, match=rf"needs {missing}, .*\n.*pip install 'tickdsl\[onnx\]'"):
        write(ticket, tmp_path / "ticket.onnx", network)


@pytest.mark.parametrize(
    "name", ["masked", *(pytest.param(name, marks=SLOW) for name in ("small-cnn", "lenet-300-100"))]
)
def test_8_bit_weights_are_close_and_take_less_space(name: str, tmp_path: Path) -> None:
    ticket, network = own_ticket(name) if name in OWN else catalogue_ticket(name)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    write(ticket, source, network)
    sizes = quantise_weights(source, target)
    assert (sizes.bytes_before, sizes.bytes_after) == (source.stat().st_size, target.stat().st_size)
    assert sizes.tensors > 0 and sizes.bytes_after < 0.6 * sizes.bytes_before
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    axes = {
        node.output[0]: next(a.i for a in node.attribute if a.name == "axis")
        for node in onnx.load(target).graph.node
        if node.op_type == "DequantizeLinear"
    }
    assert len(axes) == sizes.tensors
    for key, axis in axes.items():
        integers, scale = stored[f"{key}.int8"], stored[f"{key}.scale"]
        assert integers.dtype == np.int8 and key not in stored
        shape = [-1 if dim == axis else 1 for dim in range(integers.ndim)]
        # Rounding moves a weight by half a step of its channel at most, and zeros (masked weights) stay zero.
        assert (np.abs(integers * scale.reshape(shape) - values[key]) <= 0.5001 * scale.reshape(shape)).all()
        assert (integers[values[key] == 0] == 0).all()
    metadata = onnxruntime.InferenceSession(target).get_modelmeta().custom_metadata_map
    assert metadata.pop("weights") == "int8"
    assert metadata == onnxruntime.InferenceSession(source).get_modelmeta().custom_metadata_map
    images = exported_tickets.test_images(ticket.preprocessing.shape, 7) / 255
    expected = run(source, images)
    assert (run(target, images) - expected).abs().max() < 0.05 * expected.abs().max()
