"""Networks of numbers are run, exported in every format, verified and evaluated: columns and float images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tickdsl
from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.tickets.float_preprocessing import FloatPreprocessing
from tickdsl.tickets.formats.table import FORMATS
from tickdsl.tickets.preprocessing import preprocessing_from_json
from tickdsl.tickets.ticket_file import open_ticket
from tickdsl.training.data.preprocess import Standardise

PLAN = """\
model {model}
data arrays path="{path}" test=25%
train 2ep lr=0.05 batch=16
prune neurons 30%; rewind lr
"""


def write_arrays(path: Path, shape: tuple[int, ...], *, regression: bool = False) -> None:
    """Numbers of very different scales, and classes or values that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (120, *shape)).astype(np.float32)
    x[:, 0] *= 100
    first = x.reshape(120, -1)[:, 0]
    y = (x.reshape(120, -1)[:, :2] / 100).astype(np.float32) if regression else (first > 500).astype(np.int64)
    np.savez(path, x=x, y=y)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, shape: tuple[int, ...], **more: bool) -> None:
    monkeypatch.chdir(folder)
    write_arrays(folder / "numbers.npz", shape, **more)
    (folder / "a.plan").write_text(PLAN.format(model=model, path="numbers.npz"))
    assert main(["run", "a.plan"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "formats"), [("columns", ("ticket", "pt2", "onnx")), ("images", ("ticket", "pt2")), ("values", ("onnx",))]
)
def test_a_network_on_numbers_is_exported_and_evaluated(
    case: str,
    formats: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shape = (3, 6, 6) if case == "images" else (4,)
    run(tmp_path, monkeypatch, "lenet-300-100", shape, regression=case == "values")
    results = json.loads((tmp_path / "runs" / "latest" / "results.json").read_text())
    for form in formats:
        path = f"t{FORMATS[form].suffix}"
        assert main(["export", "--to", path, "--format", form, "--level", "1"]) == 0, capsys.readouterr()
        said = capsys.readouterr().out
        assert "verified" in said
        assert main(["evaluate", path, "--on", "arrays path=numbers.npz test=25%", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        ticket = results["arms"][0]["levels"][1]["contestants"]["ticket"]["seeds"][0]
        assert found["score"] == pytest.approx(ticket["score"], abs=1e-4)
    if case == "columns":
        assert main(["export", "--to", "folder", "--format", "state-dict", "--level", "1"]) == 0
        assert main(["export", "--to", "raw.pt2", "--format", "pt2", "--raw", "--level", "1"]) == 0
        assert "standardised by its user" in capsys.readouterr().out
    if "ticket" not in formats:
        return
    assert isinstance(open_ticket(Path("t.safetensors")).preprocessing, FloatPreprocessing)
    stored = torch.from_numpy(np.load("numbers.npz")["x"]).reshape(120, shape[0], *(shape[1:] or (1, 1)))
    network, program = tickdsl.load("t.safetensors"), torch.export.load("t.pt2").module()
    prepared = open_ticket(Path("t.safetensors")).preprocess(stored)
    with torch.no_grad():
        torch.testing.assert_close(program(stored), network(prepared), atol=1e-4, rtol=1e-4)


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)), st.floats(-100, 100), st.floats(0.1, 50),
)  # fmt: skip
def test_numbers_are_prepared_as_in_training(shape: tuple[int, int, int], mean: float, std: float) -> None:
    known = FloatPreprocessing(*shape, [mean] * shape[0], [std] * shape[0])
    assert preprocessing_from_json(json.loads(json.dumps(known.as_json()))) == known
    stored = known.random(5)
    expected = Standardise(torch.full((shape[0],), mean), torch.full((shape[0],), std), torch.device("cpu"))(stored)
    assert torch.equal(known(stored), expected) and torch.equal(known(stored.numpy()), expected)
    assert torch.equal(known(stored[0])[0], expected[0])
    if known.has_columns:
        assert torch.equal(known(stored.reshape(5, -1)), expected)
        assert torch.equal(known(stored.reshape(5, -1)[0].tolist())[0], expected[0])


def test_other_numbers_are_refused() -> None:
    known = FloatPreprocessing(4, 1, 1, [0.0] * 4, [1.0] * 4)
    with pytest.raises(TickdslError, match="takes 4 columns of numbers") as refused:
        known(torch.zeros(2, 5))
    assert refused.value.hint == "pass float32 [N, 4]"
    with pytest.raises(TickdslError):
        known("words")  # type: ignore[arg-type]
