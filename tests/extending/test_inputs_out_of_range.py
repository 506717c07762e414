"""Tokens, labels and inputs that do not fit what a data set says of them are one finding of `check`."""

from __future__ import annotations

from typing import Any

import pytest
import token_data


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("raw.train_inputs[3, 2] = 12", "ranges from 0 to 12, with a vocabulary of 12"),
        ("raw.test_inputs[0, 0] = -1", "ranges from -1 to 11, with a vocabulary of 12"),
        ("raw.train_targets[0] = 2", "ranges from 0 to 2, with 2 class names"),
        ("raw = attrs.evolve(raw, train_inputs=raw.train_inputs.astype(float))", "train_inputs is float64"),
        ("raw = attrs.evolve(raw, test_inputs=raw.test_inputs[:, :4])", "shape"),
        ("raw = attrs.evolve(raw, vocabulary=0)", "train_inputs is int64"),
        ("raw = attrs.evolve(raw, train_targets=raw.train_targets[:5])", "96 samples and 5 labels"),
    ],
)
def test_what_is_out_of_range_is_one_finding(sandbox: Any, change: str, problem: str) -> None:
    data = sandbox.module(token_data.PLUGIN.format(change=change))
    network = sandbox.module(token_data.NETWORK)
    plan = f'model "{network}:reader"\ndata "{data}:words"\ntrain 1ep lr=0.1\nprune weights 50%; rewind lr\n'
    (found,) = (finding for finding in sandbox.check(plan).diagnostics if finding.severity == "error")
    assert problem in found.message and found.help
    assert found.span.text == f'"{data}:words"'
