"""A network that views the output of a convolution as rows, as many do, runs with everything that is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import CliHarness
from viewing_network import NETWORK


def test_a_plan_with_it_runs_with_all_that_is_measured(harness: CliHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(harness.folder, "viewing_net.py").write_text(NETWORK)
    monkeypatch.chdir(harness.folder)
    monkeypatch.setattr("tickdsl.plugins.permission._allowed", False)  # and again after the test
    harness.write(
        'model "viewing_net:Viewing"\ndata synthetic size=8 channels=3 train=64 test=32\ntrain 1ep lr=0.05 batch=32\n'
        "arm a { prune filters 30%; rewind lr }\narm b { prune filters 30%; rewind lr; distill from dense }\n"
        "compare all, random-init\nreport accuracy, latency, memory, robustness",
        head="",
    )
    assert harness.run("--allow-code").exit == 0
