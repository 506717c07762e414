"""Trainings of the tasks of images: a bare loop's weights, continued, stacked, distilled; criteria, memory, latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from criteria_helpers import make_subject, trace_module
from interrupted_trainings import interrupt
from torch import Tensor
from torch.nn import functional as F
from vision_data import CASES, SEGMENT, VisionCase

from tickdsl.errors import TickdslError
from tickdsl.metrics.latency import measure_latency
from tickdsl.metrics.memory import measure_memory
from tickdsl.pruning.criteria import CRITERIA, get_criterion
from tickdsl.training.checkpoints import Checkpointer
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.data.sample import sample_batches
from tickdsl.training.evaluation import evaluate
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import train
from tickdsl.training.measured_choices import InMemoryChoices
from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.stacked.eligibility import stacking_obstacle
from tickdsl.training.stacked.training import train_stacked
from tickdsl.training.step import distillation
from tickdsl.training.step.distillation import Distillation
from tickdsl.training.tasks import UNLABELLED

CPU = torch.device("cpu")
RECIPE = Recipe(length="3ep", lr=0.02, batch=16, momentum=0.9)
AUGMENTED = Recipe(length="3ep", lr=0.02, batch=16, momentum=0.9, augment=("crop", "flip", "rotation"))

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.data)


def job(case: VisionCase, seed: int = 0, recipe: Recipe = RECIPE, **more: Any) -> TrainingJob:
    return TrainingJob(
        model=case.network(seed), data=case.dataset(), recipe=recipe, seed=seed, layout="contiguous", **more
    )


def bare_loss(case: VisionCase, outputs: Tensor, targets: Tensor) -> Tensor:
    if case.data == "shapes":
        return F.cross_entropy(outputs, targets.long(), ignore_index=UNLABELLED)
    if case.data == "shapes-tags":
        return F.binary_cross_entropy_with_logits(outputs, targets)
    return F.mse_loss(outputs, targets)


@every_case
@pytest.mark.parametrize("recipe", [RECIPE, AUGMENTED], ids=["plain", "augmented"])
def test_a_training_is_a_bare_loop(case: VisionCase, recipe: Recipe) -> None:
    ours = job(case, recipe=recipe)
    history = train(**ours.as_kwargs())
    bare, data = case.network(), case.dataset()
    stream = BatchStream(DeviceDataset(data, recipe, CPU), [0])
    optimizer = torch.optim.SGD(bare.parameters(), 0.02, 0.9, fused=True)
    rates = recipe.learning_rates(3).tolist()
    for step in range(9):
        optimizer.param_groups[0]["lr"] = rates[step]
        images, targets, _ = stream.batch(step)
        optimizer.zero_grad()
        torch.autograd.backward(bare_loss(case, bare(images), targets))
        optimizer.step()
    for a, b in zip(ours.model.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    first, last = history.epochs[0], history.epochs[-1]
    assert last.train_loss < first.train_loss and last.test_accuracy is None
    again = evaluate(ours.model, data.test_inputs, data.test_targets, preprocess=data.preprocess(), task=data.task)
    assert again.figures == last.figures and set(last.figures) == {metric.name for metric in data.task.metrics}


@every_case
@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_training_continues_where_it_was_interrupted(case: VisionCase, stop_at: int, tmp_path: Path) -> None:
    whole = job(case, recipe=AUGMENTED)
    expected = train(**whole.as_kwargs())
    interrupt(job(case, recipe=AUGMENTED, checkpoint=Checkpointer(tmp_path)), stop_at)
    resumed = job(case, recipe=AUGMENTED, checkpoint=Checkpointer(tmp_path))
    assert train(**resumed.as_kwargs()) == expected
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@every_case
def test_stacked_trainings_end_as_each_alone(case: VisionCase) -> None:
    alone, together = ([job(case, seed, AUGMENTED) for seed in range(2)] for _ in range(2))
    assert stacking_obstacle(together, InMemoryChoices(), CPU) is None
    for one, other, stacked in zip(alone, together, train_stacked(together, InMemoryChoices()), strict=True):
        single = train(**one.as_kwargs())
        assert isinstance(stacked, TrainingHistory) and stacked.stack_size == 2
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
        for a_report, b_report in zip(single.epochs, stacked.epochs, strict=True):
            assert b_report.train_loss == pytest.approx(a_report.train_loss, rel=1e-3)
            assert b_report.figures["loss"] == pytest.approx(a_report.figures["loss"], rel=1e-2)


@every_case
@pytest.mark.parametrize("recipe", [RECIPE, AUGMENTED], ids=["precomputed", "by batch"])
def test_a_student_follows_its_teacher_alone_if_targets_have_no_weight(case: VisionCase, recipe: Recipe) -> None:
    teacher = case.network(7)
    train(teacher, case.dataset(), attrs.evolve(RECIPE, length="6ep"), seed=7)
    student = job(case, recipe=attrs.evolve(recipe, length="6ep"), distillation=Distillation(teacher, 2.0, 1.0))
    history = train(**student.as_kwargs())
    data = case.dataset()
    images = data.preprocess()(data.train_inputs)
    with torch.no_grad():
        wanted = teacher.eval()(images)
        apart = [F.mse_loss(network.eval()(images), wanted).item() for network in (student.model, case.network())]
    assert apart[0] < apart[1] and history.epochs[-1].train_loss < history.epochs[0].train_loss


def test_a_teacher_with_outputs_for_every_pixel_is_asked_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits into memory is computed once; more of it is not kept, with the same results."""
    weights = []
    for most in (1 << 30, 1):
        monkeypatch.setattr(distillation, "_MAX_PRECOMPUTED_BYTES", most)
        student = job(SEGMENT, distillation=Distillation(SEGMENT.network(7), 2.0, 0.5))
        train(**student.as_kwargs())
        weights.append(student.model.state_dict())
    for a, b in zip(*(state.values() for state in weights), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@every_case
def test_a_loss_that_is_not_finite_ends_the_training(case: VisionCase) -> None:
    data = case.dataset()
    network = case.network()
    with torch.no_grad():
        next(network.parameters()).fill_(torch.nan)
    with pytest.raises(TickdslError, match=r"the training diverged: the loss is nan in epoch 1"):
        train(network, data, RECIPE, seed=0)


@every_case
@pytest.mark.parametrize("name", sorted(CRITERIA.keys() - {"delta", "movement"}))  # these need a training
def test_criteria_score_by_the_loss_of_the_task(case: VisionCase, name: str) -> None:
    data, module = case.dataset(), case.network()
    batches = sample_batches(data, torch.Generator().manual_seed(0), per_class=4, batch=16)
    graph = trace_module(module, data.shape)
    shape: Any = data.shape
    context = attrs.evolve(make_subject(module, graph, batches=batches, shape=shape), loss=data.task.loss, logits=False)
    criterion = get_criterion(name)
    if name == "grasp-halves":
        with pytest.raises(TickdslError, match="halves the classes, but the data have none"):
            criterion.weights(context, list(graph.weights))
    elif "weights" in criterion.units:
        scores = criterion.weights(context, [weight for weight in graph.weights if weight != "head.weight"])
        assert all(torch.isfinite(score).all() for score in scores)
        assert any(len(score.unique()) > 1 for score in scores)
    elif "filters" in criterion.units:
        groups = [group for group in graph.channels if group.reason is None]
        assert all(torch.isfinite(score).all() for score in criterion.channels(context, groups))
    if "layers" in criterion.units and name != "grasp-halves":
        blocks = [block for block in graph.blocks if block.reason is None]
        assert not blocks or torch.isfinite(criterion.layers(context, blocks)).all()


@every_case
def test_memory_and_latency_are_measured(case: VisionCase) -> None:
    data = case.dataset()
    images, target = data.preprocess()(data.test_inputs[:2]), data.train_targets[0]
    memory = measure_memory(case.network(), images, RECIPE, device=CPU, target=target, task=data.task)
    assert memory["memory.training"] > memory["memory"] > memory["memory.parameters"] > 0
    latency = measure_latency(case.network(), images, device=CPU)
    assert all(value > 0 for value in latency.values())
