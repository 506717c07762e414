"""`refill` and `regroup` in plans: what their steps depend on, what they share, and what measures them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from step_runner import StepRunner, step_runner

from tickdsl.graph.surgery.dense_blocks import dense_blocks
from tickdsl.inspect.level_forecast import forecast_levels
from tickdsl.plan.steps import Step

CONVOLUTIONS = ("conv2.weight", "conv3.weight")
AFTER_IMP = """\
arm imp { prune weights 50% x 3 except conv1, fc; rewind weights to 1ep }
arm refill {
    prune weights 50% x 2 except conv1, fc; rewind weights to 1ep
    prune weights 50% except conv1, fc; refill filters by l1; rewind weights to 1ep
}
compare imp, refill, random-init, random-structure
report accuracy, latency
"""


def _structure_step(found: StepRunner, arm: str, level: int) -> Step:
    levels = found.levels(arm)
    assert len(levels) == level
    return found.study.step(levels[-1].structure)


def test_a_refilled_ticket_continues_the_rounds_of_another_arm(tmp_path: Path) -> None:
    found = step_runner(tmp_path, AFTER_IMP)
    step = _structure_step(found, "refill", 3)
    assert step.operation == "refill" and step.args["by"] == "l1" and step.seed is None
    # All but the last structure and its training are those of IMP.
    assert [level.ticket for level in found.levels("refill")[:2]] == [level.ticket for level in found.levels("imp")[:2]]
    assert step.parents["structure"] == found.levels("imp")[2].structure
    assert step.parents["weights"] == found.levels("imp")[1].ticket
    before, after = found.structure(step.parents["structure"]), found.structure(step.key)
    for name in CONVOLUTIONS:
        kept, filled = (each.masks[name].reshape(len(each.masks[name]), -1) for each in (before, after))
        assert np.array_equal(filled.all(1), filled.any(1))
        assert abs(int(filled.sum()) - int(kept.sum())) <= kept.shape[1] / 2
    # The training starts from the weights of the dense network after an epoch, those that came back among them.
    ticket = found.study.step(found.levels("refill")[2].ticket)
    assert ticket.args["start"] == "1ep" and "structure" not in found.study.step(ticket.parents["weights"]).parents
    trained, rewound = found.weights(ticket.key), found.weights(ticket.parents["weights"])
    for name in CONVOLUTIONS:
        mask = torch.from_numpy(after.masks[name].copy())
        assert not trained[name][~mask].any() and bool(rewound[name][mask].all())
    # Its latency is that of the form with blocks; that of IMP, and of the dense network, is not.
    forms = {
        (m.arm, m.contestant, m.level): found.study.step(m.step).args.get("form")
        for m in found.study.measurements
        if m.report_metric == "latency"
    }
    assert {key for key, form in forms.items() if form == "blocks"} == {
        ("refill", contestant, 3) for contestant in ("ticket", "random-init", "random-structure")
    }
    # The control of random structure has whole filters, too.
    control = found.study.step(found.measured_step("random-structure", 3, "refill"))
    drawn = found.structure(control.parents["structure"])
    for name in CONVOLUTIONS:
        mask = drawn.masks[name].reshape(len(drawn.masks[name]), -1)
        assert np.array_equal(mask.all(1), mask.any(1)) and mask.sum() == after.masks[name].sum()
    assert found.metrics(control.key)["sparsity"] == found.metrics(ticket.key)["sparsity"]


def test_a_round_can_be_refilled_again_and_again(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "prune weights 50% x 2 except conv1, fc; refill filters by count; rewind weights to 1ep"
    )
    for level in found.levels("ticket"):
        assert found.study.step(level.structure).operation == "refill"
        assert found.metrics(level.ticket)["sparsity"] == found.metrics(level.structure)["sparsity"]
    first, second = (found.structure(level.structure) for level in found.levels("ticket"))
    for name in CONVOLUTIONS:
        filled = [each.masks[name].reshape(len(each.masks[name]), -1).all(1) for each in (first, second)]
        assert filled[1].sum() < filled[0].sum() and not (filled[1] & ~filled[0]).any()


def test_regrouping_depends_on_the_masks_alone(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path,
        "prune weights 60% except conv1, fc; regroup groups=2 min-rows=2; recalibrate; rewind lr\nreport pruned",
    )
    step = _structure_step(found, "ticket", 1)
    assert step.operation == "regroup" and set(step.parents) == {"structure"} and step.seed is None
    assert {name: step.args[name] for name in ("groups", "ratio", "min_rows")} == {
        "groups": 2, "ratio": 1.5, "min_rows": 2
    }  # fmt: skip
    for name in CONVOLUTIONS:
        mask = found.structure(step.key).masks[name]
        assert len(dense_blocks(mask.reshape(len(mask), -1))) <= 2
    # What is recalibrated, measured and trained is the network with the new masks.
    ticket = found.study.step(found.levels("ticket")[0].ticket)
    assert ticket.parents["structure"] == step.key
    assert found.study.step(ticket.parents["weights"]).parents["structure"] == step.key
    (pruned,) = (m.step for m in found.study.measurements if m.report_metric == "pruned")
    assert found.study.step(pruned).parents["structure"] == step.key
    assert 0 <= found.metrics(pruned)["figures"]["pruned"] <= 1


def test_saliency_depends_on_the_seed(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "prune weights 60% by snip at init except conv1, fc; refill filters by saliency extra=20%"
    )
    step = _structure_step(found, "ticket", 1)
    assert (step.args["by"], step.args["extra"], step.seed) == ("saliency", 0.2, 1)
    before, after = found.structure(step.parents["structure"]), found.structure(step.key)
    for name in CONVOLUTIONS:
        kept, filled = (each.masks[name].reshape(len(each.masks[name]), -1) for each in (before, after))
        share = kept.sum() / kept.size
        assert filled.all(1).sum() == int((share + 0.2 * (1 - share)) * len(kept) + 0.5)
    # A prune at init goes on with its training, on the refilled network.
    assert found.study.step(found.levels("ticket")[0].ticket).parents["structure"] == step.key


@pytest.mark.parametrize("statement", ["refill filters by l1", "regroup groups=2 min-rows=2"])
def test_what_is_left_of_an_untrained_network_is_forecast(tmp_path: Path, statement: str) -> None:
    found = step_runner(tmp_path, f"prune weights local 60% at init except conv1, fc; {statement}")
    (arm,) = found.study.plan.arms
    forecast = forecast_levels(found.study, arm, tmp_path)
    measured = found.metrics(found.levels("ticket")[0].structure)
    if statement.startswith("refill"):
        assert forecast[1]["params"] == measured["params"]
    else:
        assert forecast[1]["params"] == pytest.approx(measured["params"], rel=0.1)
