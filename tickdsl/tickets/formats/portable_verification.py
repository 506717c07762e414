"""Verify a file that needs no tickdsl: run it in a fresh process without tickdsl, and compare it with its network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.plurals import plural
from tickdsl.results.formatting import percent
from tickdsl.tickets import generators
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestConditions, Verified
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.formats.drawn_noise import RecordedDraws
from tickdsl.tickets.formats.file_interface import interface_of
from tickdsl.tickets.named_preprocessing import NamedPreprocessing
from tickdsl.tickets.outputs import leaves, like
from tickdsl.tickets.parts import call_part
from tickdsl.tickets.preprocessing import InputPreprocessing, Preprocessing
from tickdsl.tickets.verification import compare_figures, network_outputs, not_judged, require_equal_outputs
from tickdsl.training.named_tensors import NamedTensors, tensors_of
from tickdsl.training.tasks import CLASSIFY, Generate, Outputs

#: The largest difference of outputs, as a share of the largest output, or of 1 if that is larger.
OUTPUT_TOLERANCE = 1e-4
#: The largest difference of accuracies: 0.1 point.
ACCURACY_TOLERANCE = 1e-3
#: The images that a generator makes at once.
_BATCH = 1000
_SCRIPT = Path(__file__).with_name("run_portable.py")


def verify_portable(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Compare a .pt2 or .onnx file, run in a fresh process, with the network in the store and the stored figures.

    Outputs must agree within OUTPUT_TOLERANCE, the accuracy within ACCURACY_TOLERANCE, and the primary metric of
    another task within the same share of it. Raises VerificationError.
    """
    return verify_outputs(path, subject, options)[0]


def verify_outputs(path: Path, subject: Subject, options: ExportOptions) -> tuple[Verified, Outputs]:
    """What `verify_portable` returns, and the outputs [N, …] of the file, in the form of the network's.

    Raises VerificationError.
    """
    test, task = subject.test, subject.task
    given = given_to(subject, options)
    expected = given.outputs
    found = run_in_fresh_process(
        path, given.inputs, subject.ticket.preprocessing, raw=options.raw, further=given.noise, prepared=given.prepared
    )
    difference = require_equal_outputs(path, found, leaves(expected), OUTPUT_TOLERANCE)
    actual = like(expected, found)
    agreement = f"outputs differ by at most {difference:.1e}"
    if given.part and not given.makes_images:
        return Verified(None, f"{given.tested(subject)}: {agreement}"), actual
    if test.targets is None:
        return Verified(None, f"{not_judged(test)}: {agreement}"), actual
    count = plural(len(test.targets), f"test {subject.ticket.preprocessing.unit}")
    if given.makes_images:
        return _verified_images(path, subject, given, actual, agreement, raw=options.raw), actual
    if task is not CLASSIFY:
        verified = compare_figures(path, subject, actual, exact=False)
        return Verified(verified.score, f"{verified.sentence}; {agreement}"), actual
    accuracy = share_right(actual, test.targets)
    compared = _require_stored_accuracy(path, subject, accuracy, share_right(expected, test.targets))
    sentence = f"verified in a fresh process on {count}: {percent(accuracy, 2)}, {compared}; {agreement}"
    return Verified(accuracy, sentence), actual


@attrs.frozen(eq=False)
class Given:
    """What a file is given in its verification, and what it must return.

    inputs: [N, …] as a data set stores them, or with `prepared` as the file takes them, such as the noise [N, latent]
    of a generator; noise: the further inputs [N, …]. part: the part of the network that the file holds, and whether it
    makes images. network_outputs: those of all of the network for the test inputs.
    """

    inputs: Tensor
    noise: tuple[Tensor, ...]
    outputs: Outputs
    part: str = ""
    makes_images: bool = False
    prepared: bool = False
    network_outputs: Outputs = None

    def tested(self, subject: Subject) -> str:
        """A clause that says what a part was verified on."""
        kind = "random" if subject.test.targets is None and subject.test.part_of is None else "test"
        count = plural(len(self.inputs), f"{kind} {subject.ticket.preprocessing.unit}")
        return f"verified in a fresh process on what `{self.part}` is given for {count}"


def given_to(subject: Subject, options: ExportOptions) -> Given:
    """What a file of a subject is given, with the outputs of its network on a CPU, in float32."""
    interface = interface_of(subject.ticket, subject.network, raw=options.raw, part=options.part)
    inputs, task = subject.test.inputs, subject.task
    if interface.part and not interface.makes_images:
        return given_to_part(subject, interface.part)
    with RecordedDraws() as recorded:
        outputs = network_outputs(subject.network, subject.ticket.preprocessing, inputs, TestConditions(), task)
    if not interface.part:
        count = len(interface.noise)
        noise = tuple(torch.cat(recorded.drawn[index::count]) for index in range(count))
        return Given(inputs, noise, outputs)
    (latent,) = interface.inputs[0].shape
    drawn = generators.test_noise(latent, len(inputs), task)
    generator = generators.ImageGenerator(subject.network, raw=options.raw).eval()
    with torch.no_grad():
        images = torch.cat([generator(part) for part in torch.split(drawn, _BATCH)])
    return Given(drawn, (), images, interface.part, makes_images=True, prepared=True, network_outputs=outputs)


def given_to_part(subject: Subject, part: str) -> Given:
    """What a file with a part of a network is given: what the part is given first for the first test inputs."""
    first = subject.test.inputs[:_BATCH]
    call = call_part(subject.network, part, subject.ticket.preprocessing, first, subject.task)
    return Given(first if call.of_inputs else call.inputs, (), call.outputs, part, prepared=not call.of_inputs)


def _verified_images(
    path: Path, subject: Subject, given: Given, images: Tensor, agreement: str, *, raw: bool
) -> Verified:
    """How the images of a generator's file were verified: by the distance of the run, if it made the same images."""
    count = plural(len(images), "image")
    same = f"verified in a fresh process on the noise for {count}"
    assert isinstance(subject.task, Generate)
    made = generators.unscaled(images, raw=raw)
    in_run = leaves(given.network_outputs)[0]
    alike = in_run.shape == made.shape and bool(torch.allclose(in_run, made, atol=10 * OUTPUT_TOLERANCE))
    if subject.test.targets is None or subject.task.known_features is None or not alike:
        return Verified(None, f"{same}: {agreement}")
    judged = attrs.evolve(subject, task=generators.judged_alone(subject.task))
    verified = compare_figures(path, judged, made, exact=False)
    return Verified(verified.score, f"{verified.sentence}; {agreement}")


def share_right(outputs: Tensor, labels: Tensor) -> float:
    """The accuracy of logits [N, classes] on labels [N]."""
    return int((outputs.argmax(1) == labels).sum()) / len(labels)


def run_in_fresh_process(
    path: Path,
    inputs: Tensor,
    preprocessing: InputPreprocessing,
    *,
    raw: bool = False,
    further: Sequence[Tensor] = (),
    prepared: bool = False,
    python: Path | str = sys.executable,
) -> list[Tensor]:
    """The outputs [N, …] of a .pt2 or .onnx file for inputs [N, …] as a data set stores them, without tickdsl.

    raw: the file leaves the normalisation to its user. further: the inputs after the first, [N, …] as the file takes
    them. prepared: the first is as the file takes it, too, such as the noise [N, latent] of a generator. python: the
    interpreter. Raises VerificationError if the file does not run.
    """
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as name:
        folder = Path(name)
        uses_torch = path.suffix == ".pt2"
        given: Any = inputs
        if not prepared and not isinstance(preprocessing, Preprocessing):
            given = preprocessing.file_input(cast(Any, inputs))
        if raw and not prepared and isinstance(preprocessing, FloatPreprocessing | NamedPreprocessing):
            given = preprocessing.normalize(given)
        if isinstance(given, NamedTensors):
            (folder / "names.json").write_text(json.dumps([*given.keys()]))
        for index, tensor in enumerate((*tensors_of(given), *further)):
            if uses_torch:
                torch.save(tensor.contiguous(), folder / f"input{index}.pt")
            else:
                np.save(folder / f"input{index}.npy", tensor.numpy())
        normalise = preprocessing if raw and isinstance(preprocessing, Preprocessing) else None
        statistics = [json.dumps(normalise.mean), json.dumps(normalise.std)] if normalise else []
        command = [str(python), "-P", str(_SCRIPT), str(path.resolve()), name, *statistics]
        result = subprocess.run(command, cwd=name, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise VerificationError(f"{path.name} does not run in a fresh process: {reason}", "use another --format")
        if uses_torch:
            outputs: list[Tensor] = torch.load(folder / "outputs.pt", weights_only=True)
            return outputs
        with np.load(folder / "outputs.npz") as arrays:
            return [torch.from_numpy(arrays[f"arr_{index}"]) for index in range(len(arrays.files))]


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
    unit = subject.ticket.preprocessing.unit
    raise VerificationError(
        f"{path.name} is right on {percent(accuracy, 2)} of the test {unit}s, and its run on {percent(stored, 2)}; "
        "at most 0.1 points of difference are allowed",
        "the data set or the versions of libraries may have changed since the run: run the plan again",
    )


def _measured_otherwise(conditions: TestConditions) -> bool:
    return bool(conditions.differences) or (conditions.device, conditions.precision) != ("cpu", "fp32")
