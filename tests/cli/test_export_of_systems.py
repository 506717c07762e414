"""Tickets of every system are exported in every format, and verified against their run in a fresh process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import CliHarness
from system_cases import SYSTEM_CASES, SystemCase

import tickdsl
from tickdsl.cli import main

GAN = SystemCase(
    "gan", "generator",
    "model dcgan latent=4 width=0.1\ndata synthetic size=8 channels=1 train=192 test=64\n"
    "train 2ep opt=adam lr=0.001 batch=32\n",
    "prune weights global $share x 2 in generator; rewind weights to 4it", by="score",
)  # fmt: skip
#: What is left when tickets of two tasks are joined: tasks that are told apart by their data.
UNION = SystemCase(
    "union", "union of",
    "model vit layers=2 heads=2 dim=8 patch=4\ntrain 2ep opt=adam lr=0.01 batch=32\n",
    "data synthetic size=8 channels=1 classes=4 train=192 test=64\n"
    "prune neurons $share by gate in **.expand; union of second; rewind weights to 1ep",
)  # fmt: skip
SECOND = (
    "arm second {\ndata synthetic size=8 channels=1 classes=3 train=96 test=32\n"
    "prune neurons 40% by gate in **.expand; rewind weights to 1ep\n}\n"
)
CASES = (*(case for case in SYSTEM_CASES if case.name != "dual-square"), GAN, UNION)
#: Why a format is refused, by system.
REFUSED = {("super", "state-dict"): "no code can be written for", ("union", "state-dict"): "no code can be written for"}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_format_computes_what_the_run_measured(case: SystemCase, harness: CliHarness) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    plan = harness.folder / "system.plan"
    plan.write_text(case.head + case.plan(compare=False) + (SECOND if case is UNION else ""))
    assert main(["run", str(plan), "--jobs", "1", "--plain", "--device", "cpu"]) == 0
    for form in ("ticket", "pt2", "onnx", "state-dict"):
        result = harness.call("export", "--arm", "ticket", "--level", 1, "--format", form, "--to", f"{form}-file")
        reason = REFUSED.get((case.name, form))
        if reason is not None:
            assert (result.exit, reason in result.err) == (2, True), result.err
            assert "use --format ticket, pt2 or onnx" in result.err
            continue
        assert result.exit == 0, result.err
        # Of a GAN the distance is judged by features of the run.
        assert "verified in a fresh process" in result.out and "stored" in result.out
        if form == "ticket":
            ticket = tickdsl.open_ticket("ticket-file.safetensors")
            assert (ticket.origin.arm, ticket.origin.level) == ("ticket", 1)
            assert ticket.structure.masks if case.name not in ("super", "union") else ticket.structure.kept
    if case.name in ("refill", "regroup"):
        # Only a ticket of these consists of whole filters or dense blocks.
        result = harness.call("export", "--level", 1, "--format", "pt2", "--blocks", "--to", "blocks")
        assert result.exit == 0, result.err
        assert Path("blocks.pt2").is_file() and "verified in a fresh process" in result.out
    elif case.name == "dual":
        result = harness.call("export", "--level", 1, "--format", "pt2", "--blocks", "--to", "blocks")
        assert result.exit == 2 and "no layer of this network consists of whole filters" in result.err
    part = {"generative": "decoder", "gan": "discriminator"}.get(case.name)
    if part is not None:
        result = harness.call("export", "--level", 1, "--part", part, "--to", "part.pt2")
        assert result.exit == 0, result.err
        extra = {"ticket.json": ""}
        torch.export.load("part.pt2", extra_files=extra)
        assert json.loads(json.loads(extra["ticket.json"])["part"]) == part
        refused = harness.call("export", "--level", 1, "--part", part)
        assert refused.exit == 2 and "--part does not apply to --format ticket" in refused.err
