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
from tickdsl.tickets.export_format import ExportOptions, Subject, Verified
from tickdsl.tickets.formats.network_code import network_code
from tickdsl.tickets.outputs import leaves
from tickdsl.tickets.verification import compare_figures, network_outputs, not_judged, require_equal_outputs

WEIGHTS, CODE = "weights.safetensors", "network.py"
_SCRIPT = Path(__file__).with_name("run_state_dict.py")
#: Outputs differ by rounding: the images are normalised in another way.
_TOLERANCE = 1e-4


def write_state_dict(subject: Subject, path: Path, options: ExportOptions) -> tuple[str, ...]:
    """Write weights and code to the new folder `path`. Raises TicketError unless the network is of tickdsl's own."""
    code = network_code(subject.ticket, subject.network)
    weights = {name: tensor.contiguous().clone() for name, tensor in subject.ticket.weights.items()}
    path.mkdir()
    write_atomically(path / WEIGHTS, save(weights, {"format": "pt"}))
    write_atomically(path / CODE, code.encode())
    return ()


def verify_state_dict(path: Path, subject: Subject, options: ExportOptions) -> Verified:
    """Run weights and code in a fresh process that does not load tickdsl, and compare outputs and accuracy.

    Raises VerificationError if they differ.
    """
    actual = _logits_in_fresh_process(path, subject.test.inputs)
    expected = network_outputs(subject.network, subject.ticket.preprocessing, subject.test.inputs, subject.conditions)
    difference = require_equal_outputs(path, [actual], leaves(expected), _TOLERANCE)
    if subject.test.targets is None:
        return Verified(None, f"{not_judged(subject.test)}: the outputs differ by at most {difference:.1g}")
    return compare_figures(path, subject, actual, exact=False)


def _logits_in_fresh_process(path: Path, images: Tensor) -> Tensor:
    with tempfile.TemporaryDirectory(prefix="tickdsl-") as name:
        folder = Path(name)
        torch.save(images.contiguous(), folder / "images.pt")
        command = [sys.executable, "-P", str(_SCRIPT), str(path.resolve()), name]
        result = subprocess.run(command, cwd=name, capture_output=True, text=True, errors="replace", check=False)
        if result.returncode:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1].strip() if lines else f"exit code {result.returncode}"
            raise VerificationError(f"{path.name} does not run in a fresh process: {reason}", "use --format ticket")
        outputs: Tensor = torch.load(folder / "logits.pt", weights_only=True)
    return outputs
