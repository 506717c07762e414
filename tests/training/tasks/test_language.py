"""Language modelling: perplexity against torchmetrics, and trainings that continue, stack and distil."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupted_trainings import interrupt
from text_data import corpus, network_for, sentences
from torch import nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.evaluation import evaluate
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step import distillation as distilling
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks import BadTargets, Language
from tickdsl.training.torchvision_import import import_torchvision

RECIPE = Recipe(length="3ep", lr=0.01, batch=16, optimizer="adam")
CPU = torch.device("cpu")
TASK = Language()
DATA = [pytest.param(corpus, id="gpt"), pytest.param(sentences, id="bert")]


def job(data: Dataset, seed: int = 0, **more: Any) -> TrainingJob:
    network = network_for(data, seed, **more.pop("options", {}))
    return TrainingJob(model=network, data=data, recipe=more.pop("recipe", RECIPE), seed=seed, **more)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [N, T, V] and targets [N, T], some of which do not count."""
    count, length, vocabulary = draw(st.integers(2, 6)), draw(st.integers(1, 5)), draw(st.integers(2, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    targets = torch.randint(vocabulary, (count, length), generator=generator)
    ignored = torch.rand(count, length, generator=generator) < draw(st.sampled_from([0.0, 0.4]))
    ignored[0, 0] = False
    logits = torch.randn(count, length, vocabulary, generator=generator) * draw(st.sampled_from([0.1, 3.0]))
    return logits, targets.masked_fill(ignored, -100)


@settings(deadline=None)
@given(predictions(), st.data())
def test_perplexity_is_that_of_torchmetrics(drawn: tuple[torch.Tensor, torch.Tensor], data: st.DataObject) -> None:
    import_torchvision()  # torchmetrics imports it too
    from torchmetrics.functional.text import perplexity

    logits, targets = drawn
    cut = data.draw(st.integers(1, len(targets) - 1))
    sums = TASK.sums(logits[:cut], targets[:cut]) + TASK.sums(logits[cut:], targets[cut:])
    figures = TASK.figures(sums.tolist(), len(targets))
    expected = float(perplexity(logits.double(), targets, ignore_index=-100))
    assert figures["perplexity"] == pytest.approx(expected, rel=1e-5)
    assert figures["loss"] == pytest.approx(math.log(figures["perplexity"]))
    assert float(TASK.loss(logits, targets)) == pytest.approx(figures["loss"], rel=1e-5)
    weights = (targets != -100).sum(1)
    mean = float((TASK.scores(logits, targets) * weights).sum() / weights.sum())
    assert mean == pytest.approx(figures["loss"], rel=1e-5)


@given(predictions(), st.sampled_from([0.0, 0.1]))
def test_the_losses_of_a_stack_are_those_of_each(drawn: tuple[torch.Tensor, torch.Tensor], smoothing: float) -> None:
    logits, targets = drawn
    stacked = torch.stack([logits, logits.flip(0)], 1), torch.stack([targets, targets.flip(0)], 1)
    alone = TASK.bind(label_smoothing=smoothing)
    expected = torch.stack([alone(*pair) for pair in zip(stacked[0].unbind(1), stacked[1].unbind(1), strict=True)])
    torch.testing.assert_close(TASK.bind_stacked(label_smoothing=smoothing)(*stacked), expected)


def test_chance_is_the_perplexity_of_the_frequencies() -> None:
    targets = corpus().test_targets
    shares = targets.long().flatten().bincount(minlength=256) / targets.numel()
    logits = shares.log().clamp_min(-1e4).expand(*targets.shape, 256)
    figures = TASK.figures(TASK.sums(logits, targets).tolist(), len(targets))
    assert figures["perplexity"] == pytest.approx(TASK.chance(targets), rel=1e-4)
    uniform = TASK.sums(torch.zeros(*targets.shape, 256), targets).tolist()
    assert TASK.figures(uniform, len(targets))["perplexity"] == pytest.approx(256, rel=1e-4)


def test_a_loss_beyond_float64_has_a_perplexity_too() -> None:
    assert math.isfinite(TASK.figures([1e6, 10.0], 1)["perplexity"])


def test_tokens_are_evaluated_in_batches_that_fit_into_memory() -> None:
    assert TASK.evaluation_batch(torch.zeros(5, 8192), 1000) == 2
    assert TASK.evaluation_batch(torch.zeros(5, 100_000), 1000) == 1
    assert TASK.evaluation_batch(torch.zeros(5, 4), 1000) == 1000


@pytest.mark.parametrize("make", DATA)
def test_a_training_is_a_bare_loop(make) -> None:
    data = make()
    ours, bare = network_for(data), network_for(data)
    history = train(ours, data, RECIPE, seed=3)
    per_epoch = 7
    stream = BatchStream(DeviceDataset(data, RECIPE, CPU), [3])
    rates = RECIPE.learning_rates(per_epoch).tolist()
    optimizer = torch.optim.Adam(bare.parameters(), 0.01, fused=True)
    for step in range(3 * per_epoch):
        optimizer.param_groups[0]["lr"] = rates[step]
        tokens, targets, _ = stream.batch(step)
        assert tokens.dtype == torch.int64
        optimizer.zero_grad()
        outputs = bare(tokens)
        torch.autograd.backward(F.cross_entropy(outputs.flatten(0, -2), targets.flatten().long()))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), bare.parameters(), strict=True))
    first, last = history.epochs[0], history.epochs[-1]
    again = evaluate(ours, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task, batch=7)
    assert again.figures == pytest.approx(dict(last.figures), rel=1e-5)
    if data.task.name == "language":
        assert last.train_loss < first.train_loss
        assert last.figures["perplexity"] < 0.5 * first.figures["perplexity"]


@pytest.mark.parametrize("make", DATA)
@pytest.mark.parametrize("stop_at", [1, 7, 10])
def test_a_training_with_dropout_continues_where_it_was_interrupted(make, tmp_path: Path, stop_at: int) -> None:
    def begin(**more: Any) -> TrainingJob:
        return job(make(), options={"dropout": 0.2}, **more)

    def outcome(history: TrainingHistory, model: nn.Module) -> object:
        return history, [tensor.tolist() for tensor in model.state_dict().values()]

    whole = begin()
    expected = outcome(train(**whole.as_kwargs()), whole.model)
    interrupt(begin(checkpoint=Checkpointer(tmp_path)), stop_at)
    resumed, taken = begin(checkpoint=Checkpointer(tmp_path)), itertools.count()
    history = train(**resumed.as_kwargs(), before_step=lambda: next(taken) and None)
    assert next(taken) == 21 - stop_at
    assert outcome(history, resumed.model) == expected


@pytest.mark.parametrize("make", DATA)
def test_stacked_trainings_end_as_each_alone(make) -> None:
    alone, together = ([job(make(), seed) for seed in range(3)] for _ in range(2))
    assert stacking_obstacle(together, InMemoryChoices(), CPU) is None
    histories = train_stacked(together, InMemoryChoices())
    for one, stacked in zip(alone, histories, strict=True):
        single = train(**one.as_kwargs())
        assert isinstance(stacked, TrainingHistory) and stacked.stack_size == 3
        for a_report, b_report in zip(single.epochs, stacked.epochs, strict=True):
            assert b_report.train_loss == pytest.approx(a_report.train_loss, rel=1e-3)
            assert b_report.figures == pytest.approx(dict(a_report.figures), rel=1e-2, abs=0.03)


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_a_student_follows_its_teacher_on_every_token(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With weight 1, targets do not matter. Without memory for all its outputs, the teacher runs on every batch."""
    monkeypatch.setattr(distilling, "_MAX_PRECOMPUTED_BYTES", limit)
    teacher = network_for(corpus(), 7)
    train(teacher, corpus(), RECIPE, seed=7)
    student = job(corpus(), distillation=Distillation(teacher, temperature=2.0, weight=1.0))
    history = train(**student.as_kwargs())
    tokens = corpus().test_inputs.long()
    with torch.no_grad():
        wanted = teacher.eval()(tokens).log_softmax(-1)
        apart = [
            F.kl_div(other.eval()(tokens).log_softmax(-1), wanted, log_target=True, reduction="sum").item()
            for other in (student.model, network_for(corpus()))
        ]
    assert apart[0] < 0.3 * apart[1] and history.epochs[-1].train_loss < history.epochs[0].train_loss


def test_augmented_tokens_are_refused() -> None:
    with pytest.raises(TickdslError, match=r"`augment=` changes images"):
        train(**job(corpus(), recipe=Recipe(length="1ep", lr=0.1, batch=16, augment=("flip",))).as_kwargs())


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (np.array([["a"]]), "is <U1"),
        (np.zeros((3, 2)), r"is float64 \[3, 2\]"),
        (np.zeros(3, dtype=np.int64), r"is int64 \[3\]"),
        (np.zeros((0, 2), dtype=np.int64), r"is int64 \[0, 2\]"),
        (np.array([[0, 300]]), "ranges from 0 to 300, with a vocabulary of 300"),
        (np.array([[-1, 3]]), "ranges from -1 to 3"),
        (np.array([[-100, -100]]), "no token to predict"),
    ],
)
def test_targets_that_are_no_tokens_are_refused(targets: np.ndarray, problem: str) -> None:
    with pytest.raises(BadTargets, match=problem):
        TASK.as_targets(targets, ("word",) * 300)


@pytest.mark.parametrize(
    ("vocabulary", "ignored", "expected"),
    [(256, False, np.uint8), (256, True, np.int16), (257, False, np.int16), (40_000, False, np.int32)],
)
def test_targets_are_stored_in_the_smallest_type(vocabulary: int, ignored: bool, expected: type) -> None:
    targets = np.array([[0, vocabulary - 1, -100 if ignored else 1]])
    stored = TASK.as_targets(targets, ("word",) * vocabulary)
    assert stored.dtype == expected and (stored == targets).all()
