"""Segmentation: figures as torchmetrics has them, whatever the batches and the order; masks that are refused."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_references import mean_iou, pixel_accuracy
from torch import Tensor
from torch.nn import functional as F

from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import UNLABELLED, BadTargets, Segment, segment

TASK = Segment()
_SIDES = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))


def figures(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return dict(TASK.figures(TASK.sums(outputs, targets).tolist(), len(targets)))


@st.composite
def segmented(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits and masks with one labelled pixel or more."""
    classes = draw(st.integers(2, 4))
    values = st.sampled_from([*range(classes), UNLABELLED])
    targets = draw(hnp.arrays(np.uint8, _SIDES, elements=values))
    targets[draw(st.integers(0, len(targets) - 1)), 0, 0] = draw(st.integers(0, classes - 1))
    seed = draw(st.integers(0, 2**32 - 1))
    outputs = torch.randn(len(targets), classes, *targets.shape[1:], generator=torch.Generator().manual_seed(seed))
    return outputs, torch.from_numpy(targets)


@given(segmented())
def test_figures_are_those_of_torchmetrics(sample: tuple[Tensor, Tensor]) -> None:
    outputs, targets = sample
    found = figures(outputs, targets)
    assert found["miou"] == pytest.approx(mean_iou(outputs, targets, UNLABELLED), abs=1e-5)
    assert found["pixel-accuracy"] == pytest.approx(pixel_accuracy(outputs, targets, UNLABELLED), abs=1e-5)
    expected = F.cross_entropy(outputs, targets.long(), ignore_index=UNLABELLED).item()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert TASK.loss(outputs, targets).item() == pytest.approx(expected, rel=1e-4)


@given(segmented(), st.integers(0, 2**32 - 1))
def test_the_order_of_the_images_does_not_matter(sample: tuple[Tensor, Tensor], seed: int) -> None:
    outputs, targets = sample
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    assert figures(outputs[order], targets[order]) == pytest.approx(figures(outputs, targets), rel=1e-5)


@given(segmented(), st.integers(1, 8), st.integers(1, 20))
def test_the_size_of_the_batches_does_not_matter(sample: tuple[Tensor, Tensor], batch: int, pixels: int) -> None:
    outputs, targets = sample
    expected = figures(outputs, targets)
    with mock.patch.object(segment, "EVALUATED_PIXELS", pixels):
        result = evaluate(torch.nn.Identity(), outputs, targets, preprocess=lambda x: x, batch=batch, task=TASK)
    assert result.figures == pytest.approx(expected, rel=1e-5) and result.score == expected["miou"]


def test_large_images_are_tested_in_small_batches() -> None:
    seen: list[int] = []

    def network(images: Tensor) -> Tensor:
        seen.append(len(images))
        return torch.zeros(len(images), 2, *images.shape[2:])

    class Network(torch.nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return network(images)

    masks = torch.zeros(5, 512, 1024, dtype=torch.uint8)
    evaluate(Network(), masks.unsqueeze(1), masks, preprocess=lambda x: x, task=TASK)
    assert seen == [2, 2, 1]


@given(segmented())
def test_pixels_without_a_label_do_not_matter(sample: tuple[Tensor, Tensor]) -> None:
    outputs, targets = sample
    changed = torch.where((targets == UNLABELLED).unsqueeze(1), -outputs, outputs)
    assert figures(changed, targets) == figures(outputs, targets)


@given(segmented())
def test_chance_is_what_the_most_frequent_class_scores(sample: tuple[Tensor, Tensor]) -> None:
    outputs, targets = sample
    counts = [int((targets == label).sum()) for label in range(outputs.shape[1])]
    constant = torch.zeros_like(outputs)
    constant[:, counts.index(max(counts))] = 1
    assert TASK.chance(targets) == pytest.approx(figures(constant, targets)["miou"])


def test_a_batch_without_a_label_has_no_loss_and_no_gradient() -> None:
    outputs = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = TASK.bind()(outputs, torch.full((2, 4, 4), UNLABELLED, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and outputs.grad is not None and not outputs.grad.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@given(segmented(), st.integers(1, 3))
def test_stacked_networks_have_the_losses_and_sums_of_each(
    smoothing: float, sample: tuple[Tensor, Tensor], count: int
) -> None:
    outputs, targets = sample
    stacked = torch.stack([outputs * (1 + member) for member in range(count)], 1)
    expanded = targets.unsqueeze(1).expand(-1, count, -1, -1)
    losses = TASK.bind_stacked(label_smoothing=smoothing)(stacked, expanded)
    for member in range(count):
        alone = TASK.bind(label_smoothing=smoothing)(stacked[:, member], targets)
        assert losses[member].item() == pytest.approx(alone.item(), rel=1e-4)
        assert torch.equal(TASK.sums_stacked(stacked, targets)[:, member], TASK.sums(stacked[:, member], targets))


@given(segmented(), st.floats(0.5, 8), st.floats(0.1, 1))
def test_distillation_is_that_of_a_classifier_of_pixels(
    sample: tuple[Tensor, Tensor], temperature: float, weight: float
) -> None:
    teacher, student = sample[0], sample[0].flip(0) * 0.5
    found = TASK.distil(student, TASK.soften(teacher, temperature), temperature, weight)
    logs = [F.log_softmax(logits.double() / temperature, 1) for logits in (teacher, student)]
    expected = (logs[0].exp() * (logs[0] - logs[1])).sum(1).mean()
    assert found.item() == pytest.approx(weight * temperature**2 * expected.item(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("targets", "names", "problem"),
    [
        (np.zeros((2, 3)), ("a", "b"), r"is float64 \[2, 3\]"),
        (np.zeros((2, 3, 3)), ("a", "b"), r"is float64 \[2, 3, 3\]"),
        (np.zeros((2, 3, 3), dtype=int), ("a",), "has 1 class name"),
        (np.zeros((2, 3, 3), dtype=int), ("a",) * 256, "has 256 class names"),
        (np.array([[[0, 1], [2, 0]]]), ("a", "b"), "has 2 at row 1, column 0 of 0, with 2 class names"),
        (np.array([[[0, -1]]]), ("a", "b"), "has -1 at row 0, column 1 of 0"),
        (np.array([[[255, 255]]]), ("a", "b"), "has no pixel with a label"),
    ],
)
def test_masks_that_are_no_classes_are_refused(targets: np.ndarray, names: tuple[str, ...], problem: str) -> None:
    with pytest.raises(BadTargets, match=problem):
        TASK.as_targets(targets, names)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_masks_are_stored_in_a_byte_per_pixel(dtype: Any) -> None:
    converted = TASK.as_targets(np.array([[[0, 1], [255, 1]]], dtype=dtype), ("a", "b"))
    assert converted.dtype == np.uint8 and converted.tolist() == [[[0, 1], [255, 1]]]
