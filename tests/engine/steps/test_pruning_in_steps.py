"""A prune in many steps ends with as many units as the ticket has, also where these are fewer than the steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import step_runner

from tickdsl.engine.steps.pruning_in_steps import prune_in_steps
from tickdsl.errors import TickdslError
from tickdsl.pruning.scope import find_scope

DATA = "data synthetic size=8 channels=1 classes=4 train=96 test=32\ntrain 2ep lr=0.05 batch=32\n"
NETWORKS = {
    "weights": "lenet-300-100 width=0.05",
    "filters": "small-cnn width=0.25",
    "neurons": "lenet-300-100 width=0.05",
    "heads": "vit layers=2 heads=4 dim=8",
    "head-dims": "vit layers=1 heads=2 dim=16",
}


@pytest.mark.parametrize("unit", NETWORKS)
def test_every_level_of_the_control_has_as_many_units_as_the_ticket(unit: str, tmp_path: Path) -> None:
    amount = "0.2%" if unit == "weights" else "1"  # weights have no counts
    text = f"prune {unit} global {amount} x 3 by magnitude; rewind weights to 1ep\ncompare by-synflow\n"
    runner = step_runner(tmp_path, text, f"model {NETWORKS[unit]}\n{DATA}")
    levels = runner.levels("ticket")
    assert len(levels) == 3
    for number, level in enumerate(levels, start=1):
        control = runner.study.step(runner.measured_step("by-synflow", number))
        network = runner.context.dense_network(control)
        step = runner.study.step(control.parents["structure"])
        ours, theirs = runner.structure(level.structure), runner.structure(step.key)
        removed, removed_by_control = (find_scope(network.graph, each, step.args).removed for each in (ours, theirs))
        assert number <= removed == removed_by_control < step.args["iterations"]
        assert unit == "weights" or removed == number
        with pytest.raises(TickdslError, match=f"the matched arm removes no more {unit}"):
            prune_in_steps(step, runner.context, network, theirs, ours)
