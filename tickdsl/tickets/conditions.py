"""How the accuracy of a stored result was measured, so that the test can be repeated in the same way."""

from __future__ import annotations

import torch

from tickdsl.records.process import host_name
from tickdsl.records.store import Result
from tickdsl.tickets.export_format import TestConditions


def conditions_of(result: Result) -> TestConditions:
    """How the accuracy of a result was measured, and what of it cannot be repeated here."""
    made, metrics, args = result.data["made"], result.metrics, result.data["parts"]["args"]
    precision = args.get("precision") or args.get("recipe", {}).get("precision", "fp32")
    trained_on = str(made.get("device", "cpu"))
    on_gpu = trained_on.startswith("cuda")
    device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    reasons = {
        f"it was tested on a GPU{' in ' + precision if precision != 'fp32' else ''}": on_gpu,
        f"it was tested with torch {made.get('torch')}": made.get("torch") != str(torch.__version__),
        f"it was tested on another machine ({made.get('host')})": made.get("host") != host_name(),
        "it was compiled": bool(metrics.get("compiled")),
        "it was trained and tested in a stack": "stacked" in metrics,
        "it was tested with sparse matrix products": bool(metrics.get("sparse")),
    }
    return TestConditions(
        device=device,
        threads=int(made.get("threads", 1)),
        layout=metrics.get("layout", "contiguous"),
        precision=precision if device == "cuda" or (precision == "bf16" and not on_gpu) else "fp32",
        differences=tuple(reason for reason, holds in reasons.items() if holds),
    )
