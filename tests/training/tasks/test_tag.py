"""Tags: figures as torchmetrics has them, whatever the batches and the order; targets that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from metric_references import multilabel_average_precision, multilabel_f1
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training import evaluation
from tickdsl.training.evaluation import evaluate
from tickdsl.training.tasks import BadTargets, Tag

TASK = Tag()
#: Few values, so that many scores are equal.
_SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 4))
_LOGITS = st.sampled_from([-3.0, -1.5, -0.25, 0.25, 1.5, 3.0, 4.5])


def figures(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    return dict(TASK.figures(TASK.sums(outputs, targets).tolist(), len(targets)))


@st.composite
def tagged(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits and targets with one label or more."""
    targets = draw(hnp.arrays(np.float32, _SHAPES, elements=st.sampled_from([0.0, 1.0])))
    targets[draw(st.integers(0, len(targets) - 1)), 0] = 1
    outputs = draw(hnp.arrays(np.float32, targets.shape, elements=_LOGITS))
    return torch.from_numpy(outputs), torch.from_numpy(targets)


@given(tagged())
def test_figures_are_those_of_torchmetrics(sample: tuple[Tensor, Tensor]) -> None:
    outputs, targets = (
        torch.cat([columns, columns.flip(0)], 1) for columns in sample
    )  # torchmetrics takes two or more
    found = figures(outputs, targets)
    assert found["map"] == pytest.approx(multilabel_average_precision(outputs, targets), abs=1e-5)
    assert found["f1"] == pytest.approx(multilabel_f1(outputs, targets), abs=1e-5)
    assert found["loss"] == pytest.approx(F.binary_cross_entropy_with_logits(outputs, targets).item(), rel=1e-5)


@given(tagged(), st.integers(0, 2**32 - 1))
def test_the_order_of_the_samples_does_not_matter(sample: tuple[Tensor, Tensor], seed: int) -> None:
    outputs, targets = sample
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    assert figures(outputs[order], targets[order]) == pytest.approx(figures(outputs, targets), rel=1e-6)


@given(tagged(), st.integers(1, 50))
def test_the_size_of_the_batches_does_not_matter(sample: tuple[Tensor, Tensor], batch: int) -> None:
    outputs, targets = sample
    expected = figures(outputs, targets)
    result = evaluate(torch.nn.Identity(), outputs, targets, preprocess=lambda x: x, batch=batch, task=TASK)
    assert result.figures == expected and result.score == expected["map"] and result.scores is None


@given(tagged())
def test_scores_with_the_same_order_are_as_good(sample: tuple[Tensor, Tensor]) -> None:
    outputs, targets = sample
    assert figures(outputs * 8, targets)["map"] == pytest.approx(figures(outputs, targets)["map"], rel=1e-9)


@given(tagged())
def test_chance_is_what_equal_scores_give(sample: tuple[Tensor, Tensor]) -> None:
    _, targets = sample
    assert TASK.chance(targets) == pytest.approx(figures(torch.zeros_like(targets), targets)["map"])


def test_a_label_with_a_score_that_is_no_number_scores_nothing() -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]), torch.ones(2, 2)
    assert figures(outputs, targets)["map"] == 0.5


def test_outputs_that_take_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "MAX_KEPT_BYTES", 4 * 5 * 3)
    images, targets = torch.zeros(5, 3), torch.ones(5, 3)

    def test(count: int) -> object:
        network: Any = torch.nn.Linear(3, count)
        return evaluate(network, images, targets[:, :1].expand(5, count), preprocess=lambda x: x, batch=2, task=TASK)

    test(3)
    with pytest.raises(TickdslError, match=r"the outputs for 5 test inputs take 0\.0 GiB, and the task `tag` needs"):
        test(4)


@given(tagged(), st.integers(1, 3))
def test_stacked_networks_have_the_losses_and_sums_of_each(sample: tuple[Tensor, Tensor], count: int) -> None:
    outputs, targets = sample
    stacked = torch.stack([outputs * (1 + member) for member in range(count)], 1)
    losses = TASK.bind_stacked()(stacked, targets.unsqueeze(1).expand(stacked.shape))
    for member in range(count):
        assert losses[member].item() == pytest.approx(TASK.loss(stacked[:, member], targets).item(), rel=1e-5)
        assert torch.equal(TASK.sums_stacked(stacked, targets)[:, member], TASK.sums(stacked[:, member], targets))


@given(tagged(), st.floats(0.5, 8), st.floats(0.1, 1))
def test_distillation_is_the_divergence_of_each_label(
    sample: tuple[Tensor, Tensor], temperature: float, weight: float
) -> None:
    teacher, student = sample[0], sample[1] * 2 - 1
    found = TASK.distil(student, TASK.soften(teacher, temperature), temperature, weight)
    shares = [(logits.double() / temperature).sigmoid() for logits in (teacher, student)]
    expected = sum((p * (p / q).log()) for p, q in (shares, [1 - share for share in shares])).mean()  # type: ignore[union-attr]
    assert found.item() == pytest.approx(weight * temperature**2 * expected.item(), rel=1e-3, abs=1e-5)
    assert TASK.distil(teacher, TASK.soften(teacher, temperature), temperature, weight).item() == 0


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (np.array(["a", "b"]), r"is <U1 \[2\]"),
        (np.array([0, 1]), r"is int64 \[2\]"),
        (np.zeros((0, 2)), r"is float64 \[0, 2\]"),
        (np.array([[0, 1], [1, 2]]), r"has 2 at \[1, 1\]"),
        (np.array([[0, np.nan]]), r"has nan at \[0, 1\]"),
        (np.array([[0, 1, 1]]), "has 3 labels, but class_names has 2"),
        (np.zeros((2, 2)), "has no label at all"),
    ],
)
def test_targets_that_are_no_labels_are_refused(targets: np.ndarray, problem: str) -> None:
    with pytest.raises(BadTargets, match=problem):
        TASK.as_targets(targets, ("one", "two"))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_targets_become_float32(dtype: Any) -> None:
    converted = TASK.as_targets(np.array([[0, 1], [1, 1]], dtype=dtype), ())
    assert converted.dtype == np.float32 and converted.tolist() == [[0, 1], [1, 1]]
    assert TASK.output_names(converted, ()) == ("label 1", "label 2")


def test_labels_cannot_be_smoothed() -> None:
    with pytest.raises(TickdslError, match=r"label-smoothing=0.1: the loss of the task `tag` has none"):
        TASK.bind_stacked(label_smoothing=0.1)
