"""Ensembles of seeds: averages against those of numpy, steps of a plan, and what a run reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from step_runner import step_runner
from torch import nn
from torch.nn import functional as F

from tickdsl.metrics.ensemble import measure_ensemble
from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import TASKS

SHAPES = {"classify": (5, 3), "segment": (2, 3, 4, 4), "language": (2, 6, 3), "tag": (5, 3), "regress": (5, 3)}
SHAPES["reconstruct"] = (2, 1, 4, 4)
CLASSES = {"classify": 1, "segment": 1, "language": -1}


@pytest.mark.parametrize("name", SHAPES)
@settings(deadline=None)
@given(seed=st.integers(0, 999), members=st.integers(1, 5))
def test_probabilities_or_predictions_are_averaged(name: str, seed: int, members: int) -> None:
    stream = torch.Generator().manual_seed(seed)
    outputs = [3 * torch.randn(SHAPES[name], generator=stream) for _ in range(members)]
    averaged = TASKS[name].average(outputs)
    if name in CLASSES:
        dim = CLASSES[name]
        expected = np.mean([logits.double().softmax(dim).numpy() for logits in outputs], axis=0)
        found = averaged.exp()
        torch.testing.assert_close(averaged.softmax(dim), found)  # they are logits as well
    elif name == "tag":
        expected, found = np.mean([logits.double().sigmoid().numpy() for logits in outputs], axis=0), averaged.sigmoid()
    else:
        expected, found = np.mean([each.double().numpy() for each in outputs], axis=0), averaged
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_sure_networks_have_a_finite_average() -> None:
    for name in ("classify", "tag"):
        sure = torch.tensor([[200.0, -200.0, 0.0]])
        averaged = TASKS[name].average([sure, -sure])
        assert bool(averaged.isfinite().all()), name


def test_the_figures_are_those_of_the_averaged_probabilities() -> None:
    data = datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 50, "test": 60, "classes": 4})
    networks: list[nn.Module] = [
        models.create("small-cnn", classes=4, shape=(1, 8, 8), seed=seed).eval() for seed in range(3)
    ]
    preprocess = data.preprocess(torch.device("cpu"))
    with torch.no_grad():
        logits = [network(preprocess(data.test_inputs)) for network in networks]
    probabilities = torch.stack([each.softmax(1) for each in logits]).mean(0)
    figures = measure_ensemble(networks, data, torch.device("cpu"))
    assert figures["ensemble"] == pytest.approx((probabilities.argmax(1) == data.test_targets).double().mean())
    assert figures["ensemble.loss"] == pytest.approx(
        float(F.nll_loss(probabilities.log(), data.test_targets)), rel=1e-5
    )
    assert figures["ensemble.members"] == 3
    alone = evaluate(networks[0], data.test_inputs, data.test_targets, preprocess=preprocess)
    assert measure_ensemble(networks[:1], data, torch.device("cpu"))["ensemble"] == alone.accuracy


def test_every_network_of_a_plan_has_an_ensemble_of_its_seeds(tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, "seeds [3, 1, 2]\nprune weights 50% x 2; rewind weights to init\n"
        "compare random-init\nreport accuracy, ensemble",
    )  # fmt: skip
    measured = [m for m in found.study.measurements if m.report_metric == "ensemble"]
    tested = [m for m in found.study.measurements if not m.report_metric]
    assert {(m.contestant, m.level) for m in measured} == {(m.contestant, m.level) for m in tested}
    assert len(measured) == 5 and {m.seed for m in measured} == {2}
    for m in measured:
        step = found.study.step(m.step)
        members = [step.parents[f"weights {number}"] for number in (1, 2, 3)]
        of_seeds = [each.step for each in tested if (each.contestant, each.level) == (m.contestant, m.level)]
        assert members == of_seeds and [found.study.step(key).seed for key in members] == [3, 1, 2]
        assert step.seed is None
    ticket = next(m for m in measured if (m.contestant, m.level) == ("ticket", 1))
    figures = found.metrics(ticket.step)["figures"]
    assert 0 <= figures["ensemble"] <= 1 and figures["ensemble.members"] == 3


def test_equal_networks_are_as_good_together_as_alone(tmp_path: Path) -> None:
    """Seeds that differ in nothing but the data order of an untrained network: its ensemble is itself."""
    found = step_runner(tmp_path, "seeds 2\nprune weights 50%; rewind weights to init\nreport ensemble")
    dense = next(m for m in found.study.measurements if m.report_metric == "ensemble" and m.level == 0)
    members = [found.metrics(key) for role, key in found.study.step(dense.step).parents.items() if "weights" in role]
    together = found.metrics(dense.step)["figures"]["ensemble.loss"]
    assert together <= max(member["loss"] for member in members) + 1e-6  # the loss is convex in the probabilities
