"""Verify a file that needs no tickdsl: run it in a fresh process without tickdsl, and compare it with its network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tickdsl.plurals import plural
from tickdsl.results.formatting import percent
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestConditions, Verified
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.verification import compare_score, logits, require_equal_outputs

#: The largest difference of outputs, as a share of the largest output, or of 1 if that is larger.
OUTPUT_TOLERANCE = 1e-4
#: The largest difference of accuracies: 0.1 point.
ACCURACY_TOLERANCE = 1e-3
_SCRIPT = Path(__file__).with_name("run_portable.py")


def verify_portable(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Compare a .pt2 or .onnx file, run in a fresh process, with the network in the store and the stored accuracy.

    Outputs must agree within OUTPUT_TOLERANCE, and the accuracy within ACCURACY_TOLERANCE. Raises VerificationError.
    """
    return verify_outputs(path, subject, options)[0]


def verify_outputs(path: Path, subject: Subject, options: ExportOptions) -> tuple[Verified, Tensor]:
    """What `verify_portable` returns, and the outputs [N, classes] of the file."""
    test = subject.test
    expected = logits(subject.network, subject.ticket.preprocessing, test.images, TestConditions())
    actual = run_in_fresh_process(path, test.images, subject.ticket.preprocessing if options.raw else None)
    difference = require_equal_outputs(path, actual, expected, OUTPUT_TOLERANCE)
    agreement = f"outputs differ by at most {difference:.1e}"
    if test.labels is None:
        why = f" ({test.why_random})" if test.why_random else ""
        count = plural(len(actual), "random image")
        sentence = f"verified in a fresh process on {count}, as the test set is not at hand{why}: {agreement}"
        return Verified(None, sentence), actual
    if not test.task.has_classes:
        verified = compare_score(path, subject, actual)
        return Verified(None, f"{verified.sentence}; {agreement}"), actual
    accuracy = share_right(actual, test.labels)
    compared = _require_stored_accuracy(path, subject, accuracy, share_right(expected, test.labels))
    count = plural(len(actual), "test image")
    sentence = f"verified in a fresh process on {count}: {percent(accuracy, 2)}, {compared}; {agreement}"
    return Verified(accuracy, sentence), actual


def share_right(outputs: Tensor, labels: Tensor) -> float:
    """The accuracy of logits [N, classes] on labels [N]."""
    return int((outputs.argmax(1) == labels).sum()) / len(labels)


def run_in_fresh_process(
    path: Path, images: Tensor, normalise: Preprocessing | None = None, *, python: Path | str = sys.executable
) -> Tensor:
    """The logits [N, classes] of a .pt2 or .onnx file for images uint8 [N, C, H, W], without tickdsl.

    normalise: how to normalise the images for a file that does not. python: the interpreter. Raises VerificationError
    if the file does not run.
    """
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as name:
        folder = Path(name)
        uses_torch = path.suffix == ".pt2"
        if uses_torch:
            torch.save(images.contiguous(), folder / "images.pt")
        else:
            np.save(folder / "images.npy", images.numpy())
        statistics = [json.dumps(normalise.mean), json.dumps(normalise.std)] if normalise else []
        command = [str(python), "-P", str(_SCRIPT), str(path.resolve()), name, *statistics]
        result = subprocess.run(command, cwd=name, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise VerificationError(f"{path.name} does not run in a fresh process: {reason}", "use another --format")
        if uses_torch:
            outputs: Tensor = torch.load(folder / "logits.pt", weights_only=True)
            return outputs
        return torch.from_numpy(np.load(folder / "logits.npy"))


def _require_stored_accuracy(path: Path, subject: Subject, accuracy: float, here: float) -> str:
    """How a file's accuracy compares with the stored one, as a clause. Raises VerificationError if it differs too much.

    here: the accuracy that the network has on this CPU in float32, which counts if the stored one was measured in
    another way, such as on a GPU in reduced precision.
    """
    stored = subject.ticket.metrics.get("accuracy")
    if stored is None:
        return "no accuracy is stored"
    if abs(accuracy - stored) <= ACCURACY_TOLERANCE:
        return "as stored" if accuracy == stored else f"stored is {percent(stored, 2)}"
    if _measured_otherwise(subject.conditions) and abs(accuracy - here) <= ACCURACY_TOLERANCE:
        return f"as the network has here; stored is {percent(stored, 2)}, measured under other conditions"
    raise VerificationError(
        f"{path.name} is right on {percent(accuracy, 2)} of the test images, and its run on {percent(stored, 2)}; "
        "at most 0.1 points of difference are allowed",
        "the data set or the versions of libraries may have changed since the run: run the plan again",
    )


def _measured_otherwise(conditions: TestConditions) -> bool:
    return bool(conditions.differences) or (conditions.device, conditions.precision) != ("cpu", "fp32")
