"""`check` knows whether the ticket that a plan starts from fits, and says at its place why not."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from plan_tickets import plan_ticket, written
from safetensors.torch import save_file

from tickdsl.checks import check_file
from tickdsl.engine.dense_networks import dense_network
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plugins import permission

PLAN = 'model small-cnn on digits weights="t.safetensors"\nprune filters 20% x 2; rewind lr\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def errors(text: str = PLAN) -> list[Diagnostic]:
    Path("p.plan").write_text(text, "utf-8")
    return [d for d in check_file("p.plan").diagnostics if d.severity == "error"]


def the_error(text: str = PLAN) -> Diagnostic:
    (error,) = errors(text)
    assert error.span.line == 1 and error.help
    return error


def test_a_ticket_that_fits_has_no_finding() -> None:
    written(Path("t.safetensors"), plan_ticket())
    assert errors() == []
    assert errors(PLAN.replace("filters 20% x 2", "filters 20% until 60%")) == []
    assert errors(PLAN.replace("filters 20% x 2", "weights 20% until sparsity > 60%")) == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("resnet20 on digits", "its network is small-cnn, and this one resnet20"),
        ("small-cnn on digits width=0.5", "its network has width=1.0, and this one width=0.5"),
        ("small-cnn on mnist", "it takes images of 1×8×8, and mnist has 1×28×28"),
    ],
)
def test_another_network_or_other_images(model: str, says: str) -> None:
    written(Path("t.safetensors"), plan_ticket())
    error = the_error(PLAN.replace("small-cnn on digits", model))
    assert error.code == "TD526" and says in error.message
    assert "`model small-cnn`" in str(error.help) and "10 classes" in str(error.help)


def test_other_classes() -> None:
    written(Path("t.safetensors"), plan_ticket(classes=7))
    error = the_error()
    assert error.code == "TD526" and "it tells 7 classes apart, and digits has 10" in error.message


def test_a_ticket_whose_units_the_network_does_not_have() -> None:
    ticket = plan_ticket(options={"width": 0.5})
    written(Path("t.safetensors"), ticket, source=attrs.evolve(ticket.source, options={}))
    error = the_error()
    assert error.code == "TD526" and "as it is now" in error.message


def _with_metadata(path: Path, **changes: str) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= {name.replace("_", "-"): text for name, text in changes.items()}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_another_version() -> None:
    _with_metadata(written(Path("t.safetensors"), plan_ticket()), tickdsl_ticket="2")
    error = the_error()
    assert error.code == "TD526" and "another version of tickdsl (ticket format 2, not 1)" in error.message


def test_a_flipped_bit() -> None:
    path = written(Path("t.safetensors"), plan_ticket())
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    error = the_error()
    assert error.code == "TD526" and "is damaged: its content does not match its checksum" in error.message


def test_a_description_without_a_network() -> None:
    path = written(Path("t.safetensors"), plan_ticket())
    _with_metadata(path, about='{"structure": {}}')
    assert "damaged" in the_error().message


@pytest.mark.parametrize(
    ("content", "says"), [(None, "there is no weights file"), (b"", "is empty"), (b"PK", "cut short")]
)
def test_a_missing_or_foreign_file(content: bytes | None, says: str) -> None:
    if content is not None:
        Path("t.safetensors").write_bytes(content)
    error = the_error()
    assert error.code == "TD131" and says in error.message


def test_a_ticket_that_is_cut_short() -> None:
    path = written(Path("t.safetensors"), plan_ticket())
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut short" in the_error().message


def test_plain_weights_are_no_ticket() -> None:
    dense = dense_network("small-cnn", b"{}", 10, (1, 8, 8))
    save_file({name: tensor.clone() for name, tensor in dense.module.state_dict().items()}, "t.safetensors")
    assert errors(PLAN.replace("rewind lr", "rewind weights to 5%")) == []


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("prune filters 20% x 2; rewind weights to 5%", 2, "`rewind weights to 5%`"),
        ("prune filters 20% at 2ep; rewind lr", 2, "`at 2ep`"),
        ("seeds 3; split samples 2\nprune weights 20% x 2; overlap; rewind weights to init", 2, "`split`"),
        ("prune weights to 95% from 1ep to 2ep every 2it", 2, "`from … to … every …`"),
        ("prune filters 20% via zeroing every=1ep; rewind lr", 2, "`via zeroing`"),
        ("prune weights 20% by delta; rewind lr", 2, "`by delta`"),
    ],
)
def test_statements_that_need_the_training_of_a_dense_network(text: str, line: int, says: str) -> None:
    written(Path("t.safetensors"), plan_ticket())
    found = errors(PLAN.splitlines()[0] + "\n" + text + "\n")
    assert [(d.code, d.span.line) for d in found] == [("TD527", line)]
    assert says in found[0].message and found[0].help


def test_what_a_ticket_lacks_counts_once_for_the_targets_of_successive_prunes() -> None:
    written(Path("t.safetensors"), plan_ticket())
    text = "\nprune filters to 40%; rewind lr\nprune filters to 45%; rewind lr\nprune filters to 50%; rewind lr\n"
    assert errors(PLAN.splitlines()[0] + text) == []


@pytest.mark.parametrize("amount", ["20% until 10%", "to 10%"])
def test_a_target_that_the_ticket_has_reached(amount: str) -> None:
    written(Path("t.safetensors"), plan_ticket())
    found = errors(PLAN.replace("20% x 2", amount))
    assert [(d.code, d.span.line) for d in found] == [("TD529", 2)]
    assert "has lost 25% of the filters" in found[0].message


def test_amounts_count_from_the_ticket() -> None:
    """A target counts from the dense network, so that a ticket needs fewer rounds."""
    written(Path("t.safetensors"), plan_ticket())
    found = check_file_notes(PLAN.replace("20% x 2", "20% until 50%"))
    dense = check_file_notes(PLAN.replace("20% x 2", "20% until 50%").replace(' weights="t.safetensors"', ""))
    assert ("takes 2 rounds" in found, "takes 4 rounds" in dense) == (True, True)


def check_file_notes(text: str) -> str:
    Path("p.plan").write_text(text, "utf-8")
    return "\n".join(d.message for d in check_file("p.plan").diagnostics if d.code == "TD903")


def test_an_own_network_with_changed_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = "nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes)"
    code = f"from torch import nn\ndef network(classes, shape):\n    return nn.Sequential({layers})\n"
    (folder / "own_of_ticket.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(permission, "_allowed", True)
    text = PLAN.replace("small-cnn", '"own_of_ticket:network"')
    written(Path("t.safetensors"), plan_ticket("own_of_ticket:network", code="earlier"))
    Path("p.plan").write_text(text, "utf-8")
    (warning,) = [d for d in check_file("p.plan").diagnostics if d.code == "TD528"]
    assert warning.span.line == 1
    from tickdsl.plugins import code_identity

    known = code_identity("model", "own_of_ticket:network")
    written(Path("t.safetensors"), plan_ticket("own_of_ticket:network", code=known))
    assert not [d for d in check_file("p.plan").diagnostics if d.code in ("TD526", "TD528")]


def test_check_needs_no_torch_for_a_ticket() -> None:
    written(Path("t.safetensors"), plan_ticket())
    assert errors() == []  # the graph is cached from here on
    code = (
        "import sys; from tickdsl.checks import check_file; r = check_file('p.plan'); "
        "assert not r.errors; print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_budget_that_the_ticket_has_reached_is_refused() -> None:
    written(Path("t.safetensors"), plan_ticket())
    (error,) = errors(PLAN.replace("filters 20% x 2", "filters to 10% of flops"))
    assert error.code == "TD431" and "is reached before this prune" in error.message
    assert errors(PLAN.replace("filters 20% x 2", "filters to 80% of flops x 2")) == []
