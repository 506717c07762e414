"""Classification through the task is what it was: a bare loop's weights, bit for bit, and the usual formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training import models
from tickdsl.training.data import datasets
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.evaluation import evaluate
from tickdsl.training.loop import train
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.tasks import CLASSIFY, BadTargets, Classify, Task, TaskMetric

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny() -> Dataset:
    return datasets.load("synthetic", options={"size": 8, "channels": 1, "train": 100, "test": 40, "classes": 4})


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_training_has_the_weights_of_a_bare_loop(tiny: Dataset, smoothing: float) -> None:
    """Six full batches and a smaller one per epoch."""
    recipe = Recipe(length="2ep", lr=0.05, batch=16, momentum=0.9, label_smoothing=smoothing)
    ours, bare = (models.create("lenet-300-100", classes=4, shape=tiny.shape, seed=0) for _ in range(2))
    history = train(ours, tiny, recipe, seed=3)
    stream = BatchStream(DeviceDataset(tiny, recipe, CPU), [3])
    optimizer = torch.optim.SGD(bare.parameters(), 0.05, 0.9, fused=True)
    losses, rates = torch.zeros(2, dtype=torch.float64), recipe.learning_rates(7).tolist()
    for step in range(14):
        optimizer.param_groups[0]["lr"] = rates[step]
        images, labels, _ = stream.batch(step)
        loss = F.cross_entropy(bare(images), labels, label_smoothing=smoothing)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses[step // 7] += loss.detach().double() * len(labels)
    for (name, weight), other in zip(ours.named_parameters(), bare.parameters(), strict=True):
        assert torch.equal(weight, other), name
    assert [report.train_loss for report in history.epochs] == pytest.approx((losses / 100).tolist(), rel=1e-12)
    last = history.epochs[-1]
    assert last.figures == {"accuracy": last.test_accuracy, "loss": last.test_loss}


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(2, 5), st.integers(1, 4))
def test_stacked_sums_and_losses_are_those_of_each_network(seed: int, batch: int, classes: int, networks: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(batch, networks, classes, generator=draw)
    targets = torch.randint(0, classes, (batch,), generator=draw)
    single = [CLASSIFY.sums(one, targets) for one in outputs.unbind(1)]
    torch.testing.assert_close(CLASSIFY.sums_stacked(outputs, targets), torch.stack(single, 1), rtol=1e-5, atol=1e-5)
    right = outputs.argmax(2) == targets.unsqueeze(1)
    scores = CLASSIFY.scores_stacked(outputs, targets)
    assert scores is not None and torch.equal(scores, right)
    assert [sums[1] for sums in single] == right.sum(0).tolist()
    losses = CLASSIFY.bind_stacked(label_smoothing=0.1)(outputs, targets.unsqueeze(1).expand(-1, networks))
    expected = [F.cross_entropy(one, targets, label_smoothing=0.1) for one in outputs.unbind(1)]
    torch.testing.assert_close(losses, torch.stack(expected))


def test_an_evaluation_in_batches_is_one_over_all_images(tiny: Dataset) -> None:
    model = models.create("lenet-300-100", classes=4, shape=tiny.shape, seed=0)
    whole, parts = (
        evaluate(model, tiny.test_inputs, tiny.test_targets, preprocess=tiny.preprocess(), batch=size)
        for size in (1000, 7)
    )
    assert whole.accuracy == parts.accuracy == whole.score
    assert whole.loss == pytest.approx(parts.loss, rel=1e-6)
    assert whole.scores is not None and parts.scores is not None and torch.equal(whole.scores, parts.scores)
    assert whole.scores.double().mean().item() == whole.accuracy


class _Hinge(Classify):
    """A classifier with another loss: what is fast for cross-entropy must not be used for it."""

    name = "hinge"

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.multi_margin_loss(outputs, targets)


def test_a_classifier_with_its_own_loss_has_it_everywhere() -> None:
    task, draw = _Hinge(), torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(6, 3, 4, generator=draw), torch.randint(0, 4, (6,), generator=draw)
    expected = torch.stack([F.multi_margin_loss(one, targets) for one in outputs.unbind(1)])
    assert torch.equal(task.bind_stacked()(outputs, targets.unsqueeze(1).expand(-1, 3)), expected)
    assert torch.equal(task.bind()(outputs[:, 0], targets), expected[0])
    figures = [task.figures(sums, 6) for sums in task.sums_stacked(outputs, targets).T.tolist()]
    assert [figure["loss"] for figure in figures] == pytest.approx(expected.tolist())
    assert figures[0]["accuracy"] == (outputs[:, 0].argmax(1) == targets).double().mean().item()
    with pytest.raises(Exception, match=r"label-smoothing=0.1: the loss of the task `hinge` has none"):
        task.bind(label_smoothing=0.1)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.array([0, 4]), "ranges from 0 to 4, with 3 class names"),
        (np.array([-1, 2]), "ranges from -1 to 2"),
        (np.array([0.5, 1.0]), r"is float64 \[2\]"),
        (np.zeros((2, 1), dtype=np.int64), r"is int64 \[2, 1\]"),
    ],
)
def test_labels_out_of_range_or_of_another_kind_are_refused(labels: np.ndarray, problem: str) -> None:
    with pytest.raises(BadTargets, match=problem):
        CLASSIFY.as_targets(labels, ("a", "b", "c"))
    kept = CLASSIFY.as_targets(np.array([0, 2], dtype=np.uint8), ("a", "b", "c"))
    assert kept.dtype == np.int64


@given(st.integers(1, 10**6))
def test_a_metric_knows_its_resolution_and_its_direction(count: int) -> None:
    accuracy, loss = CLASSIFY.metrics
    assert accuracy.resolution(count) == 1 / count and loss.resolution(count) == 0
    assert accuracy.is_better(0.6, 0.5) and not accuracy.is_better(0.5, 0.5)
    assert loss.is_better(0.5, 0.6) and CLASSIFY.primary is accuracy


def test_a_task_without_stacked_methods_is_stacked_by_its_single_ones() -> None:
    class Absolute(Task):
        metrics = (TaskMetric("mae", higher_is_better=False),)

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return F.l1_loss(outputs, targets)

        def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs - targets).abs().double().sum().view(1)

    outputs, targets = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    errors = (outputs - targets).abs().mean((0, 2))
    torch.testing.assert_close(Absolute().bind_stacked()(outputs, targets), errors)
    sums = Absolute().sums_stacked(outputs, targets[:, 0])
    torch.testing.assert_close(sums[0], (outputs - targets[:, :1]).abs().double().sum((0, 2)))
    assert Absolute().scores_stacked(outputs, targets[:, 0]) is None
