"""Verify a ticket's file: load it in a fresh process, and compare it with its network and the stored figures."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.plurals import agreeing, plural
from tickdsl.records.events import MetricInfo
from tickdsl.records.image_flags import decode_flags, encode_flags
from tickdsl.results.formatting import percent
from tickdsl.results.scores import label, number
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestConditions, TestInputs, Verified
from tickdsl.tickets.outputs import joined, leaves, like, test_figures
from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.training.data.streaming.images import batches
from tickdsl.training.devices import autocast_type, float32_format, resolve_device
from tickdsl.training.evaluation import same_noise
from tickdsl.training.memory_layouts import LAYOUTS, set_memory_format
from tickdsl.training.named_tensors import NamedTensors, run_network
from tickdsl.training.tasks import CLASSIFY, Outputs, Task, TaskMetric

_SCRIPT = Path(__file__).parent / "formats" / "run_ticket.py"
#: As many images as `evaluate` runs at once: other batches round differently.
_BATCH = 1000
#: Outputs of two processes may differ by rounding: as a share of the largest output.
_ROUNDING = 1e-5
#: The largest difference of accuracies between formats: 0.1 point.
MAX_ACCURACY_DIFFERENCE = 1e-3
#: The accuracy may differ by this where the test cannot be repeated as it was, such as on another device.
_ELSEWHERE = 0.01
#: Other metrics than the accuracy are sums of numbers, and may differ by rounding, as a share of the metric.
_SAME_METRIC = 1e-5
_REPORT = "export it again; if that does not help, report it with the plan"


def verify_ticket(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Compare a ticket's file, loaded in a fresh process, with the network in the store and the stored accuracy.

    Weights and structure must have the same bits, outputs must be equal up to rounding, and the primary metric, or for
    classifiers accuracy and the images that are right, exactly as stored, unless the test cannot be repeated as it was.
    Raises VerificationError if not.
    """
    _require_same_content(path, subject)
    actual = _outputs_in_fresh_process(path, subject)
    task = subject.task
    expected = network_outputs(
        subject.network, subject.ticket.preprocessing, subject.test.inputs, subject.conditions, task
    )
    require_equal_outputs(path, actual, leaves(expected))
    if subject.test.targets is None:
        return Verified(None, f"{not_judged(subject.test)}: the outputs are those of the network in the store")
    return compare_figures(path, subject, like(expected, actual))


def network_outputs(
    network: nn.Module,
    preprocessing: InputPreprocessing,
    inputs: Any,
    conditions: TestConditions,
    task: Task = CLASSIFY,
) -> Outputs:
    """The outputs of a network in eval mode, as `evaluate` computes them under these conditions: float32 [N, …].

    inputs: [N, …] as a data set stores them, such as uint8 [N, C, H, W], or several by name.
    """
    prepare: Any = preprocessing
    device = resolve_device(conditions.device)
    module = copy.deepcopy(network).to(device).eval()
    set_memory_format(module, LAYOUTS[conditions.layout])
    autocast = autocast_type(conditions.precision, device)
    threads = torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    try:
        with (
            torch.no_grad(),
            same_noise(task, device),
            float32_format(conditions.precision, device),
            torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
        ):
            parts = [joined([run_network(module, prepare(part.to(device)))]) for part in batches(inputs, _BATCH)]
    finally:
        torch.set_num_threads(threads)
    return joined(parts)


def require_equal_outputs(
    path: Path, actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = _ROUNDING
) -> float:
    """The largest difference of outputs, tensor by tensor, in the unit of the outputs.

    It may be `tolerance` times the largest output of its tensor, or `tolerance` if that is below 1. Raises
    VerificationError if it is larger.
    """
    if len(actual) != len(expected):
        raise VerificationError(
            f"{path.name} returns {plural(len(actual), 'tensor')}, and its network {len(expected)}", _REPORT
        )
    pairs = zip(actual, expected, strict=True)
    return max(_difference(path, one, other, tolerance) for one, other in pairs)


def _difference(path: Path, actual: Tensor, expected: Tensor, tolerance: float) -> float:
    if actual.shape != expected.shape:
        raise VerificationError(
            f"{path.name} returns {list(actual.shape)}, and its network {list(expected.shape)}", _REPORT
        )
    apart = (actual - expected).abs().masked_fill(actual.isnan() & expected.isnan(), 0)
    apart = apart.masked_fill(actual == expected, 0)  # infinities
    difference = float(apart.nan_to_num(nan=math.inf, posinf=math.inf).max())
    finite = expected[expected.isfinite()].abs()
    largest = float(finite.max()) if len(finite) else 0.0
    if difference > tolerance * max(1.0, largest):
        raise VerificationError(
            f"the outputs of {path.name} differ from those of its network by up to {difference:.2g}", _REPORT
        )
    return difference


def _require_same_content(path: Path, subject: Subject) -> None:
    """Raise VerificationError unless the file has the structure and all weights, bit for bit."""
    read = open_ticket(path)
    same = read.structure == subject.ticket.structure and read.weights.keys() == subject.ticket.weights.keys()
    if not same or not all(_same_bits(read.weights[name], known) for name, known in subject.ticket.weights.items()):
        raise VerificationError(f"{path.name} does not hold what was written", "check the disk, and export it again")


def _same_bits(first: Tensor, second: Tensor) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (first, second)))


def _outputs_in_fresh_process(path: Path, subject: Subject) -> list[Tensor]:
    conditions = attrs.asdict(attrs.evolve(subject.conditions, differences=()))
    settings = json.dumps({**conditions, "allow_code": subject.allow_code})
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as name:
        folder = Path(name)
        torch.save(saved_inputs(subject.test.inputs), folder / "inputs.pt")
        command = [sys.executable, "-P", str(_SCRIPT), str(path.resolve()), name, settings]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise VerificationError(f"{path.name} does not run in a fresh process: {reason}", _REPORT)
        outputs: list[Tensor] = torch.load(folder / "outputs.pt", weights_only=True)
    return outputs


def saved_inputs(inputs: Tensor | NamedTensors) -> Any:
    """Inputs as `torch.save` writes them for a script: a tensor, or tensors by name."""
    return inputs.contiguous().tensors if isinstance(inputs, NamedTensors) else inputs.contiguous()


def not_judged(test: TestInputs) -> str:
    """A clause that says which inputs stand in for the test set."""
    count, inputs = len(test.inputs), test.inputs
    if isinstance(inputs, NamedTensors):
        kind = "sample"
    else:
        kind = "input" if inputs.is_floating_point() else "image" if inputs.dim() == 4 else "sequence"
    if test.part_of is not None:
        return f"verified in a fresh process on {plural(count, kind)}, the first of {test.part_of:,} of the test set"
    why = f" ({test.why_random})" if test.why_random else ""
    return f"verified in a fresh process on {plural(count, f'random {kind}')}, as the test set is not at hand{why}"


def compare_figures(path: Path, subject: Subject, outputs: Outputs, *, exact: bool = True) -> Verified:
    """Compare what outputs [N, …] for the test set say with what is stored; see `compare_accuracy`.

    The primary metric of another task than classification may differ by rounding, or where the test cannot be repeated
    as it was, by 1% of it. Raises VerificationError if it differs too much.
    """
    targets, ticket = subject.test.targets, subject.ticket
    assert targets is not None
    task = subject.task
    if task is CLASSIFY:
        return compare_accuracy(path, subject, outputs.argmax(1) == targets, exact=exact)
    metric = task.primary
    count = plural(len(targets), "test sample")
    try:
        score, stored = test_figures(task, outputs, targets)[metric.name], ticket.score
    except TickdslError as error:  # what judges the outputs is made in a run only
        same = "the outputs are those of the network in the store"
        return Verified(None, f"verified in a fresh process on {count}: {same}; not judged: {error.message}")
    shown = metric_in_words(metric, score)
    tested = f"verified in a fresh process on {count}: {shown}"
    if stored is None:
        return Verified(score, f"{tested}; no {metric.name} is stored")
    apart, reasons = abs(score - stored), subject.conditions.differences
    allowed = _ELSEWHERE if reasons else _SAME_METRIC if exact else MAX_ACCURACY_DIFFERENCE
    if apart <= _SAME_METRIC * max(abs(stored), 1e-6) or (math.isnan(score) and math.isnan(stored)):
        return Verified(score, f"{tested}, as stored")
    known = metric_in_words(metric, stored)
    if not apart <= allowed * max(abs(stored), 1e-6):
        raise VerificationError(
            f"{path.name} has a {shown} on the test set, and its run a {known}",
            "the code of the network or the versions of libraries may have changed since the run: run the plan again",
        )
    why = f", since {' and '.join(reasons)}" if reasons else ""
    return Verified(score, f"{tested}; stored is {known}{why}")


def metric_in_words(metric: TaskMetric, value: float) -> str:
    """A value of a metric with its name: `mIoU 61.20%`, `RMSE 0.512`."""
    return f"{label(MetricInfo(**attrs.asdict(metric)))} {metric_value(metric, value)}"


def metric_value(metric: TaskMetric, value: float) -> str:
    """A value of a metric with its unit: `61.20%`, `0.512`."""
    return number(MetricInfo(**attrs.asdict(metric)), value)


def compare_accuracy(path: Path, subject: Subject, correct: Tensor, *, exact: bool = True) -> Verified:
    """Compare which test images are right with what is stored.

    correct: bool [N]. exact: they must be the same, if the test can be repeated as it was; otherwise the accuracy may
    differ by MAX_ACCURACY_DIFFERENCE. Raises VerificationError if they differ too much.
    """
    stored, flags = subject.ticket.metrics.get("accuracy"), subject.ticket.metrics.get("correct")
    right, count = int(correct.sum()), len(correct)
    unit = subject.ticket.preprocessing.unit
    accuracy = right / count
    tested = f"verified in a fresh process on {plural(count, f'test {unit}')}: {percent(accuracy, 2)}"
    if stored is None:
        return Verified(accuracy, f"{tested}; no accuracy is stored")
    differing = abs(right - round(stored * count))
    if flags is not None:
        ours = decode_flags(encode_flags(correct.to(torch.uint8).numpy().tobytes()))
        differing = (ours ^ decode_flags(flags)).bit_count()
    if not differing:
        same = f", and the same {unit}s are right" if flags is not None else ""
        return Verified(accuracy, f"{tested}, as stored{same}")
    others = f"{plural(differing, unit)} {agreeing(differing, 'is')} classified differently"
    reasons = subject.conditions.differences
    allowed = _ELSEWHERE if reasons else 0.0 if exact else MAX_ACCURACY_DIFFERENCE
    if abs(accuracy - stored) > allowed + 1e-12 or (exact and not reasons):
        raise VerificationError(
            f"{path.name} is right on {percent(accuracy, 2)} of the test {unit}s, and its run on {percent(stored, 2)}: "
            f"{others}",
            "the code of the network or the versions of libraries may have changed since the run: run the plan again",
        )
    why = f", since {' and '.join(reasons)}" if reasons else ""
    return Verified(accuracy, f"{tested}; stored is {percent(stored, 2)}: {others}{why}")
