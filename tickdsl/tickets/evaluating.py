"""Evaluate an exported file on a data set: a ticket, a program of torch.export, or an ONNX file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError, TicketError
from tickdsl.metrics.latency import LATENCY, measure_latency
from tickdsl.plurals import plural
from tickdsl.pruning.ticket_header import is_ticket
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.generators import PART, judged_alone, unscaled
from tickdsl.tickets.judges import judge_for
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.outputs import leaves
from tickdsl.tickets.preprocessing import InputPreprocessing, Preprocessing, preprocessing_from_json, preprocessing_of
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.training.catalogue.input_shapes import NamedShapes, is_tokens, shape_in_words
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.streaming.images import in_memory
from tickdsl.training.evaluation import EvaluationResult, evaluate
from tickdsl.training.named_tensors import NamedTensors, run_network
from tickdsl.training.tasks import CLASSIFY, Generate, Outputs, find_task

#: The 97.5% quantile of the normal distribution, for intervals of 95%.
_QUANTILE = 1.959964
#: The inputs that are run at once: of tickets as in their training, of files as in their verification.
_TICKET_BATCH, _BATCH = 1000, 100
_CPU = torch.device("cpu")


@attrs.frozen(kw_only=True)
class Evaluation:
    """What a file achieves on a data set.

    task: what the file was trained for, and is judged by: the `score` is the value of the task's primary `metric`, and
    `figures` has all of its figures. accuracy: the score of a classifier. low, high: Wilson's 95% interval of the
    accuracy over the test images; None for other metrics. stored: the score in the file. params and macs: parameters
    without masked ones, and multiply-adds per input; None if the file does not say. latency: seconds for one input on
    one core. notes: what else the user should know.
    """

    path: Path
    format: str
    network: str
    task: str
    metric: str
    score: float
    figures: Mapping[str, float]
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


@attrs.frozen(eq=False)
class _Runnable:
    """A file that was opened.

    run: from inputs as files take them (float images in [0, 1] or numbers [N, C, H, W], or tokens int64 [N, T]) to the
    outputs [N, …] of the network. about: what the file says about itself, as in `file_metadata`. prepare: what a
    ticket's network takes, from inputs as the data set stores them; its module is `network`.
    """

    format: str
    title: str
    about: Mapping[str, Any]
    classes: tuple[str, ...] | None
    preprocessing: InputPreprocessing | None
    run: Callable[[Tensor], Outputs]
    task: str = "classify"
    network: nn.Module | None = None
    part: str = ""


def evaluate_file(path: Path, data: Dataset, name: str, *, store: Path | None = None) -> Evaluation:
    """Evaluate a file on the test set of a data set, which is called `name` in messages, by the task of the file.

    store: where the classifier that judged generated images in a run may be (default: `.tick/store`).

    Raises TicketError if the file cannot be read, or does not fit the inputs, the task or the outputs of the data, or
    if the data have no labels to judge generated images by.
    """
    opened = _open(path)
    data, notes = _judged(path, opened, data, name, store)
    data = attrs.evolve(data, test_inputs=in_memory(data.test_inputs))
    task = data.task
    _require_fit(path, opened, data, name)
    result = _evaluated(path, opened, data, name)
    count = len(data.test_targets)
    metrics = opened.about.get("metrics") or {}
    accuracy = result.figures["accuracy"] if task is CLASSIFY else None
    low, high = (None, None) if accuracy is None else _wilson(round(accuracy * count), count)
    return Evaluation(
        path=path,
        format=opened.format,
        network=opened.title,
        task=task.name,
        metric=task.primary.name,
        score=result.score,
        figures={name: value for name, value in result.figures.items() if not math.isnan(value) or not opened.part},
        accuracy=accuracy,
        low=low,
        high=high,
        images=count,
        stored=metrics.get("score", metrics.get("accuracy")),
        params=metrics.get("params"),
        macs=metrics.get("macs"),
        bytes=path.stat().st_size,
        latency=measure_latency(_Called(opened.run), _file_inputs(data.test_inputs[:1], data), device=_CPU)[LATENCY],
        notes=(*notes, *_notes(opened, data)),
    )


def _judged(path: Path, opened: _Runnable, data: Dataset, name: str, store: Path | None) -> tuple[Dataset, list[str]]:
    """The data set as the task of the file uses it, with what the task judges by, and notes for the user."""
    if opened.part not in ("", PART):
        raise TicketError(
            f"{path} holds the part `{opened.part}`, and a data set judges whole networks only",
            "evaluate a file that was exported without --part",
        )
    used, notes = _for_task(path, opened, data, name), []
    if isinstance(used.task, Generate):
        _require_fit(path, opened, used, name)
        judge = judge_for(data, opened.about.get("origin") or {}, store)
        judging = used.task.with_features(judge.features)
        used = attrs.evolve(used, task=judged_alone(judging) if opened.part else judging)
        notes.append(judge.note)
    if opened.part:
        notes.append(f"the file holds the part `{opened.part}`; parameters and multiply-adds are those of all parts")
    return used, notes


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Outputs]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor, **named: Tensor) -> Outputs:
        several: Any = NamedTensors(named) if named else inputs[0]
        return self._function(several)


def _file_inputs(stored: Tensor, data: Dataset) -> Tensor:
    """Inputs as files take them: images as floats in [0, 1], numbers as they are, tokens as int64."""
    if isinstance(data.shape, NamedShapes):
        prepared: Any = preprocessing_of(data)
        return prepared.file_input(stored)  # type: ignore[no-any-return]
    if is_tokens(data.shape):
        return stored.long()
    return stored.float() if data.has_floats else stored.float() / 255


def _for_task(path: Path, opened: _Runnable, data: Dataset, name: str) -> Dataset:
    """The data set as the task of the file uses it. Raises TicketError if it has another task."""
    task = find_task(opened.task)
    if data.task.name == task.name or task.learns_from_inputs:
        return data.for_task(task)
    raise TicketError(
        f"{path} was trained for the task {task.name}, and the task of {name} is {data.task.name}",
        f"evaluate it on data of the task {task.name}",
    )


def _evaluated(path: Path, opened: _Runnable, data: Dataset, name: str) -> EvaluationResult:
    """The figures of a file on the test set. Raises TicketError if it does not run on it, or its outputs do not fit."""
    module = opened.network or _Called(opened.run)
    preprocess: Any = lambda stored: _file_inputs(stored, data)  # noqa: E731
    if opened.network is not None and opened.preprocessing is not None:
        preprocess = opened.preprocessing
    task = data.task
    try:
        with torch.no_grad():
            first = run_network(module, preprocess(data.test_inputs[:2]))
    except Exception as error:  # the program of another author may raise anything
        known = preprocessing_of(data)
        size = known.in_words if data.named else list(_file_inputs(data.test_inputs[:1], data).shape[1:])
        raise TicketError(
            f"{path} does not take {known.input_name} {size}: {_first_line(error)}",
            "evaluate it on data with the inputs that it was made for: `size=` and `channels=` of --on for images",
        ) from error
    if task is CLASSIFY and not _is_logits(first, len(data.test_inputs[:2]), data.classes):
        shown = " and ".join(str(list(tensor.shape)) for tensor in leaves(first))
        raise TicketError(f"{path} returns {shown} for {len(data.test_inputs[:2])} images", _other_data(name))
    try:
        return evaluate(
            module,
            data.test_inputs,
            data.test_targets,
            preprocess=preprocess,
            batch=_TICKET_BATCH if opened.network is not None or _noise_shapes(opened.about) else _BATCH,
            task=task,
        )
    except Exception as error:
        raise TicketError(
            f"the outputs of {path} do not fit the task {task.name} of {name}: {_first_line(error)}", _other_data(name)
        ) from error


def _is_logits(outputs: Outputs, count: int, classes: int) -> bool:
    return isinstance(outputs, Tensor) and list(outputs.shape) == [count, classes]


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
        {"metrics": ticket.metrics, "origin": attrs.asdict(ticket.origin)},
        ticket.classes,
        preprocessing,
        lambda inputs: run_network(module, preprocessing.normalize(cast(Any, inputs))),
        ticket.task,
        module,
    )


def _called(network: Any, inputs: Any, noise: Sequence[Tensor]) -> Outputs:
    """The outputs of a program for inputs, several of them by keyword, and for what it would draw."""
    outputs: Outputs = network(**inputs) if isinstance(inputs, NamedTensors) else network(inputs, *noise)
    return outputs


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
    run = lambda inputs, *noise: _called(network, inputs, noise)  # noqa: E731
    return _portable("pt2", path, _parsed(extra_files[METADATA_FILE]), run)


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
        names = [known.name for known in session.get_inputs()]
    except Exception as error:  # reading a damaged or foreign file raises anything
        raise _unreadable(path, "an ONNX file", error) from error

    def run(inputs: Any, *noise: Tensor) -> Outputs:
        tensors = [inputs[name] for name in names] if isinstance(inputs, NamedTensors) else [inputs, *noise]
        given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=False)}
        found = [torch.from_numpy(array) for array in session.run(None, given)]
        return found[0] if len(found) == 1 else tuple(found)

    return _portable("onnx", path, {key: _value(text) for key, text in known.items()}, run)


def _portable(form: str, path: Path, about: Mapping[str, Any], network: Callable[..., Outputs]) -> _Runnable:
    """A file that runs without tickdsl; noise that it takes is drawn as the network drew it in tests."""
    described = about.get("preprocessing")
    if not isinstance(described, dict):
        return _Runnable(form, path.name, {}, None, None, network)
    fields = dict(described)
    inside = fields.pop("inside", True)
    try:
        preprocessing = preprocessing_from_json(fields)
    except (TypeError, ValueError) as error:
        raise TicketError(f"the description in {path} is not valid: {error}", "export it again") from error
    shapes, part = _noise_shapes(about), str(about.get("part", ""))

    def run(inputs: Tensor) -> Outputs:
        noise = [torch.randn(len(inputs), *shape) for shape in shapes]
        if part:
            return unscaled(network(*noise), raw=not inside)
        given: Any = inputs
        return network(given if inside else preprocessing.normalize(given), *noise)

    title, task = str(about.get("network", path.name)), str(about.get("task", CLASSIFY.name))
    return _Runnable(form, title, about, tuple(about.get("classes", ())) or None, preprocessing, run, task, part=part)


def _noise_shapes(about: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The shapes, without the batch, of the noise that a file takes."""
    return [tuple(known["shape"]) for known in about.get("inputs") or () if known.get("is_noise")]


def _parsed(text: str | bytes) -> dict[str, Any]:
    """The metadata in a .pt2 file; empty if it was not written by tickdsl."""
    found = _value(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    return {key: _value(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _value(text: Any) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def _require_fit(path: Path, opened: _Runnable, data: Dataset, name: str) -> None:
    """Raise TicketError unless the images and the number of classes are those of the file."""
    known = opened.preprocessing
    if known is not None and known.shape == data.shape and isinstance(known, FloatPreprocessing) != data.has_floats:
        kinds = ("numbers", "images of 8 bits")
        theirs, ours = kinds if isinstance(known, FloatPreprocessing) else reversed(kinds)
        raise TicketError(f"{path} takes {theirs}, and {name} has {ours}", _other_data(name))
    if isinstance(known, NamedPreprocessing) and known.takes(data.shape):
        known = None
    if known is not None and known.shape != data.shape:
        hint = _other_data(name)
        if isinstance(known, Preprocessing) and not is_tokens(data.shape):
            hint = f'choose the size of the data: --on "{name} size={known.height} channels={known.channels}"'
        raise TicketError(f"{path} takes {known.in_words}, and {name} has {shape_in_words(data.shape)}", hint)
    if opened.classes is not None and len(opened.classes) != data.classes and not data.task.learns_from_inputs:
        problem = f"{path} tells {len(opened.classes)} classes apart, and {name} has {data.classes}"
        if not data.task.has_classes:
            problem = f"{path} has {plural(len(opened.classes), 'output')}, and {name} {data.classes}"
        raise TicketError(problem, _other_data(name))
    if not len(data.test_targets):
        raise TicketError(f"{name} has no test inputs", "name a data set with a test set")


def _other_data(name: str) -> str:
    return f"evaluate it on the data that it was trained on, instead of {name}"


def _notes(opened: _Runnable, data: Dataset) -> list[str]:
    if opened.preprocessing is None:
        return ["the file does not say how images are prepared: it was given floats in 0..1"]
    if data.task.learns_from_inputs:
        return []
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
