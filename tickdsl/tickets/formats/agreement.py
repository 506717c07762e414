"""Verify an exported file: run it in a fresh process, and compare it with the network that it was made from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.training.rng import generator

#: The largest difference of outputs: absolute, or as a share of the largest output if that is above 1.
OUTPUT_TOLERANCE = 1e-4
#: The largest difference of accuracies: 0.1 point.
ACCURACY_TOLERANCE = 1e-3
#: How many random images stand in for a test set that is not at hand.
_NUM_RANDOM_IMAGES = 64
_SCRIPT = Path(__file__).with_name("fresh_run.py")


@attrs.frozen
class TestImages:
    """Images uint8 [N, C, H, W], and their labels int64 [N]; None for random images."""

    __test__ = False
    images: Tensor
    labels: Tensor | None = None

    @classmethod
    def random(cls, preprocessing: Preprocessing) -> TestImages:
        """Random images, the same each time."""
        shape = (_NUM_RANDOM_IMAGES, *preprocessing.shape)
        return cls(torch.randint(0, 256, shape, generator=generator(0, "verification"), dtype=torch.uint8))


@attrs.frozen
class Agreement:
    """How well a file agrees with its network.

    difference: the largest one of any output; largest: the largest output. accuracy: of the file, None for random
    images.
    """

    difference: float
    largest: float
    accuracy: float | None

    @property
    def outputs_agree(self) -> bool:
        """Whether outputs agree within OUTPUT_TOLERANCE."""
        return self.difference <= OUTPUT_TOLERANCE * max(1.0, self.largest)


def measure_agreement(
    path: Path, network: nn.Module, preprocessing: Preprocessing, test: TestImages, *, raw: bool = False
) -> Agreement:
    """Run a .pt2 or .onnx file in a fresh process, and `network` here, on the same images.

    raw: the file leaves the normalisation to its user. Raises VerificationError if the file does not run.
    """
    logits = run_in_fresh_process(path, test.images, preprocessing if raw else None)
    expected = _logits(network, preprocessing, test.images)
    if logits.shape != expected.shape:
        shapes = [list(tensor.shape) for tensor in (logits, expected)]
        raise VerificationError(f"{path.name} returns {shapes[0]}, and its network {shapes[1]}")
    difference = (logits - expected).abs().masked_fill(logits.isnan() & expected.isnan(), 0)
    finite = expected[expected.isfinite()].abs()
    return Agreement(
        difference=float(difference.nan_to_num(nan=math.inf, posinf=math.inf).max()),
        largest=float(finite.max()) if len(finite) else 0.0,
        accuracy=None if test.labels is None else float((logits.argmax(1) == test.labels).double().mean()),
    )


def require_agreement(path: Path, agreement: Agreement, expected_accuracy: float | None) -> None:
    """Raise VerificationError if outputs or accuracy of a file differ too much from those of its network."""
    if not agreement.outputs_agree:
        raise VerificationError(
            f"the outputs of {path.name} differ from its network's by up to {agreement.difference:.2g}; "
            f"at most {OUTPUT_TOLERANCE:g} is allowed",
            "use another --format, and report the network that this happens with",
        )
    if agreement.accuracy is None or expected_accuracy is None:
        return
    if not abs(agreement.accuracy - expected_accuracy) <= ACCURACY_TOLERANCE:
        raise VerificationError(
            f"{path.name} classifies {agreement.accuracy:.2%} of the test set correctly, and its run says "
            f"{expected_accuracy:.2%}; a difference of at most {ACCURACY_TOLERANCE:.1%} is allowed",
            "check that the data set is the one that the run was tested on",
        )


def run_in_fresh_process(
    path: Path, images: Tensor, normalise: Preprocessing | None = None, *, python: Path | str = sys.executable
) -> Tensor:
    """The logits [N, classes] of a .pt2 or .onnx file for images uint8 [N, C, H, W], without tickdsl.

    normalise: normalise the images for a file that does not do so. python: the interpreter. Raises VerificationError
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
            logits: Tensor = torch.load(folder / "logits.pt", weights_only=True)
            return logits
        return torch.from_numpy(np.load(folder / "logits.npy"))


def _logits(network: nn.Module, preprocessing: Preprocessing, images: Tensor) -> Tensor:
    """The logits of a network in eval mode, on the CPU."""
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            return torch.cat([network(preprocessing(part)).float() for part in images.split(100)])
    finally:
        network.train(was_training)
