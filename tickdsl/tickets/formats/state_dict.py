"""The format `state-dict`: a folder with plain weights, and Python code that builds their network without tickdsl."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from tickdsl.records.files import write_atomically
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import ExportOptions, Subject, TestConditions, Verified
from tickdsl.tickets.formats.file_interface import part_interface
from tickdsl.tickets.formats.network_code import network_code
from tickdsl.tickets.formats.portable_verification import given_to_part
from tickdsl.tickets.outputs import leaves, like
from tickdsl.tickets.verification import compare_figures, network_outputs, not_judged, require_equal_outputs
from tickdsl.training.evaluation import NOISE_SEED

WEIGHTS, CODE = "weights.safetensors", "network.py"
_SCRIPT = Path(__file__).with_name("run_state_dict.py")
#: Outputs differ by rounding: the images are normalised in another way.
_TOLERANCE = 1e-4


def write_state_dict(subject: Subject, path: Path, options: ExportOptions) -> tuple[str, ...]:
    """Write weights and code to the new folder `path`.

    Raises TicketError unless the network is of tickdsl's own, and has the part that the options name.
    """
    code = network_code(subject.ticket, subject.network, options.part)
    prefix = f"{options.part}." if options.part else ""
    weights = {
        name.removeprefix(prefix): tensor.contiguous().clone()
        for name, tensor in subject.ticket.weights.items()
        if name.startswith(prefix)
    }
    path.mkdir()
    write_atomically(path / WEIGHTS, save(weights, {"format": "pt"}))
    write_atomically(path / CODE, code.encode())
    if not options.part:
        return ()
    return (part_interface(subject.ticket, subject.network, options.part).in_words,)


def verify_state_dict(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Run weights and code in a fresh process that does not load tickdsl, and compare outputs and the primary metric.

    Raises VerificationError if they differ.
    """
    test, task = subject.test, subject.task
    if options.part:
        given = given_to_part(subject, options.part)
        actual = _outputs_in_fresh_process(path, given.inputs)
        difference = require_equal_outputs(path, actual, leaves(given.outputs), _TOLERANCE)
        return Verified(None, f"{given.tested(subject)}: outputs differ by at most {difference:.1e}")
    # What a GPU draws is not drawn again on the CPU.
    conditions = TestConditions() if task.draws_in_tests else subject.conditions
    expected = network_outputs(subject.network, subject.ticket.preprocessing, test.inputs, conditions, task)
    actual = _outputs_in_fresh_process(path, test.inputs, NOISE_SEED if task.draws_in_tests else None)
    difference = require_equal_outputs(path, actual, leaves(expected), _TOLERANCE)
    if test.targets is None:
        return Verified(None, f"{not_judged(test)}: the outputs differ by at most {difference:.1g}")
    return compare_figures(path, subject, like(expected, actual), exact=False)


def _outputs_in_fresh_process(path: Path, inputs: Tensor, seed: int | None = None) -> list[Tensor]:
    """The outputs [N, …] of a folder for inputs [N, …]. seed: of what the network draws."""
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as name:
        folder = Path(name)
        torch.save(inputs.contiguous(), folder / "inputs.pt")
        command = [
            sys.executable,
            "-P",
            str(_SCRIPT),
            str(path.resolve()),
            name,
            *([] if seed is None else [str(seed)]),
        ]
        result = subprocess.run(command, cwd=name, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise VerificationError(f"{path.name} does not run in a fresh process: {reason}", "use --format ticket")
        outputs: list[Tensor] = torch.load(folder / "outputs.pt", weights_only=True)
    return outputs
