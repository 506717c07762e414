"""Evaluate an exported file on a data set: a ticket, a program of torch.export, or an ONNX file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError, TicketError
from tickdsl.metrics.latency import LATENCY, measure_latency
from tickdsl.pruning.ticket_header import is_ticket
from tickdsl.records.events import MetricInfo
from tickdsl.results.scores import ACCURACY
from tickdsl.tickets.export_format import TestConditions, TestImages
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.tickets.verification import logits, task_score
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import in_memory

#: The 97.5% quantile of the normal distribution, for intervals of 95%.
_QUANTILE = 1.959964
_BATCH = 100


@attrs.frozen(kw_only=True)
class Evaluation:
    """What a file achieves on a data set.

    low, high: Wilson's 95% interval of the accuracy over the test images; all three are None for a task without
    classes. score: the value of `metric`, the primary one of the task. stored: the score in the file. params and
    macs: parameters without masked ones, and multiply-adds per image; None if the file does not say. latency: seconds
    for one image on one core. notes: what else the user should know.
    """

    path: Path
    format: str
    network: str
    accuracy: float | None
    low: float | None
    high: float | None
    images: int
    stored: float | None
    params: int | None
    macs: int | None
    bytes: int
    latency: float
    notes: tuple[str, ...] = ()
    score: float
    metric: MetricInfo


@attrs.frozen(eq=False)
class _Runnable:
    """A file that was opened.

    run: from float images [N, C, H, W] in [0, 1] to logits [N, classes], for files other than tickets. about: what the
    file says about itself, as in `file_metadata`.
    """

    format: str
    network: str
    about: Mapping[str, Any]
    classes: tuple[str, ...] | None
    preprocessing: Preprocessing | None
    run: Callable[[Tensor], Tensor]
    score: Callable[[Tensor], Tensor] | None = None


def evaluate_file(path: Path, data: Dataset, name: str) -> Evaluation:
    """Evaluate a file on the test images of a data set, which is called `name` in messages.

    Raises TicketError if the file cannot be read, or does not fit the images or the classes.
    """
    opened = _open(path)
    _require_fit(path, opened, data, name)
    images = in_memory(data.test_inputs)
    outputs = opened.score(images) if opened.score is not None else _run_batches(path, opened.run, images)
    if outputs.dim() != 2 or outputs.shape[1] != data.classes:
        raise TicketError(f"{path} returns {list(outputs.shape)} for {len(images)} images", _other_data(name))
    count, metric = len(data.test_targets), MetricInfo(**attrs.asdict(data.task.primary))
    score = task_score(TestImages(images, data.test_targets, task=data.task), outputs)
    accuracy = low = high = None
    if metric == ACCURACY:
        right = int((outputs.argmax(1) == data.test_targets).sum())
        accuracy, (low, high) = right / count, _wilson(right, count)
    metrics = opened.about.get("metrics") or {}
    first = images[:1].float() / 255
    return Evaluation(
        path=path,
        format=opened.format,
        network=opened.network,
        accuracy=accuracy,
        score=score,
        metric=metric,
        low=low,
        high=high,
        images=count,
        stored=metrics.get("accuracy", metrics.get("score")),
        params=metrics.get("params"),
        macs=metrics.get("macs"),
        bytes=path.stat().st_size,
        latency=measure_latency(_Called(opened.run), first, device=torch.device("cpu"))[LATENCY],
        notes=tuple(_notes(opened, data)),
    )


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, images: Tensor) -> Tensor:
        return self._function(images)


def _open(path: Path) -> _Runnable:
    if path.suffix == ".pt2":
        return _open_pt2(_existing(path))
    if path.suffix == ".onnx":
        return _open_onnx(_existing(path))
    if path.is_file() and not is_ticket(path) and path.suffix not in ("", ".safetensors"):
        raise TicketError(
            f"{path} cannot be evaluated: it is no ticket, and does not end with .pt2 or .onnx",
            "name a file that `tickdsl export` wrote with --format ticket, pt2 or onnx",
        )
    ticket = open_ticket(path)
    module, preprocessing = ticket.network(), ticket.preprocessing
    return _Runnable(
        "ticket",
        ticket.source.title,
        {"metrics": ticket.metrics},
        ticket.classes,
        preprocessing,
        lambda images: module(preprocessing.normalize(images)),
        lambda images: logits(module, preprocessing, images, TestConditions()),
    )


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise TicketError(f"there is no file {path}", "write one with `tickdsl export`")
    return path


def _open_pt2(path: Path) -> _Runnable:
    from tickdsl.tickets.formats.exported_program import quiet_torch
    from tickdsl.tickets.formats.pt2 import METADATA_FILE

    extra_files = {METADATA_FILE: ""}
    try:
        with quiet_torch():
            network = torch.export.load(path, extra_files=extra_files).module()
    except Exception as error:  # reading a damaged or foreign file raises anything
        raise _unreadable(path, "a program of torch.export", error) from error
    return _portable("pt2", path, _parsed(extra_files[METADATA_FILE]), lambda images: network(images))


def _open_onnx(path: Path) -> _Runnable:
    from tickdsl.tickets.formats.onnx import require_onnx

    require_onnx()
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
        known = session.get_modelmeta().custom_metadata_map
        name = session.get_inputs()[0].name
    except Exception as error:  # reading a damaged or foreign file raises anything
        raise _unreadable(path, "an ONNX file", error) from error

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.numpy()})[0])

    return _portable("onnx", path, {key: _value(text) for key, text in known.items()}, run)


def _portable(form: str, path: Path, about: Mapping[str, Any], network: Callable[[Tensor], Tensor]) -> _Runnable:
    """A file that runs without tickdsl."""
    described = about.get("preprocessing")
    if not isinstance(described, dict):
        return _Runnable(form, path.name, {}, None, None, network)
    fields = dict(described)
    inside = fields.pop("inside", True)
    try:
        preprocessing = Preprocessing.from_json(fields)
    except TypeError as error:
        raise TicketError(f"the description in {path} is not valid: {error}", "export it again") from error
    run = network if inside else (lambda images: network(preprocessing.normalize(images)))
    title = str(about.get("network", path.name))
    return _Runnable(form, title, about, tuple(about.get("classes", ())) or None, preprocessing, run)


def _parsed(text: str | bytes) -> dict[str, Any]:
    """The metadata in a .pt2 file; empty if it was not written by tickdsl."""
    found = _value(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    return {key: _value(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _value(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def _run_batches(path: Path, run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            return torch.cat([run(part.float() / 255) for part in torch.split(images, _BATCH)])
    except Exception as error:  # the program of another author may raise anything
        raise TicketError(
            f"{path} does not take images {list(images.shape[1:])}: {_first_line(error)}",
            "evaluate it on data with the images that it was made for: `size=` and `channels=` of --on",
        ) from error


def _require_fit(path: Path, opened: _Runnable, data: Dataset, name: str) -> None:
    """Raise TicketError unless the images and the number of classes are those of the file."""
    known = opened.preprocessing
    if known is not None and known.shape != data.shape:
        size, ours = ("×".join(map(str, shape)) for shape in (data.shape, known.shape))
        raise TicketError(
            f"{path} takes images of {ours}, and {name} has {size}",
            f'choose the size of the data: --on "{name} size={known.height} channels={known.channels}"',
        )
    if opened.classes is not None and len(opened.classes) != data.classes:
        raise TicketError(
            f"{path} tells {len(opened.classes)} classes apart, and {name} has {data.classes}", _other_data(name)
        )
    if not len(data.test_targets):
        raise TicketError(f"{name} has no test images", "name a data set with test images")


def _other_data(name: str) -> str:
    return f"evaluate it on the data that it was trained on, instead of {name}"


def _notes(opened: _Runnable, data: Dataset) -> list[str]:
    if opened.preprocessing is None:
        return ["the file does not say how images are prepared: it was given floats in 0..1"]
    if opened.classes is not None and opened.classes != tuple(data.class_names):
        same = sorted(opened.classes) == sorted(data.class_names)
        return [
            f"the classes of the data have {'another order' if same else 'other names'} than those of the file: "
            "class 1 was compared with class 1, and so on"
        ]
    return []


def _wilson(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share (Wilson, 1927, doi:10.1080/01621459.1927.10502953)."""
    share, z2 = right / count, _QUANTILE**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _QUANTILE * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return (max(0.0, centre - half) if right else 0.0), (min(1.0, centre + half) if right < count else 1.0)


def _unreadable(path: Path, what: str, error: Exception) -> TickdslError:
    return TicketError(
        f"{path} cannot be read as {what}: {_first_line(error)}", "name a file that `tickdsl export` wrote"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
