"""Trainings of equal shape as one stacked network: in lockstep, one optimiser step for all of them.

A small network leaves a large GPU idle; eight of them in one keep it eight times as busy with as many launches. What
a training is stays as it was: its order, alterations, masks, tests, checkpoints and deposits are its own, and each ends
for itself. Only the rounding differs, since sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.data.device_dataset import BatchStream, DeviceDataset
from tickdsl.training.epoch_evaluation import EpochSums, EpochTester
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import isolated_rng, train
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.stacked.network import StackedNetwork, unstack
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import TrainingRun, evaluate_test_set

#: How one of several trainings ended; None: it was not begun.
StackedOutcome = TrainingHistory | TickdslError | None
#: Told by its place who leaves before the others end: with what failed, or not begun.
OnLeave = Callable[[int, TickdslError | None], None]


def train_stacked(
    jobs: Sequence[TrainingJob],
    choices: MeasuredChoices,
    *,
    device: torch.device | str = "cpu",
    before_step: Callable[[], None] | None = None,
    on_leave: OnLeave = lambda index, error: None,
) -> list[StackedOutcome]:
    """Train networks that `stacking_obstacle` finds nothing against, in place and in lockstep, as `train` does each.

    before_step comes before every step of all. A training that fails, because it diverged for example, fails alone; its
    share of the stack is computed on and thrown away. Trainings are continued together where their checkpoints stand at
    the same step; those that stand elsewhere than the first are not begun. Where none stands beside the first, it is
    trained alone, and raises what `train` raises.
    """
    device = torch.device(device)
    dataset = DeviceDataset(jobs[0].data, jobs[0].recipe, device)
    runs = [TrainingRun(job, dataset, device) for job in jobs]
    checkpoint_states = [run.attach_checkpoint() for run in runs]
    members = [
        index
        for index, state in enumerate(checkpoint_states)
        if _resume_point(state) == _resume_point(checkpoint_states[0])
    ]
    if checkpoint_states[0] is not None and (checkpoint_states[0].get("sparse") or checkpoint_states[0].get("compile")):
        members = [0]  # it keeps to what was chosen when it began
    outcomes: list[StackedOutcome] = [None] * len(jobs)
    for index, run in enumerate(runs):
        if index not in members:
            _detach_checkpoint(run)
            on_leave(index, None)
    if len(members) == 1:
        _detach_checkpoint(runs[0])
        outcomes[0] = train(**jobs[0].as_kwargs(), choices=choices, device=device, before_step=before_step)
        return outcomes
    member_outcomes = _train(
        [runs[index] for index in members],
        [checkpoint_states[index] for index in members],
        before_step,
        lambda index, error: on_leave(members[index], error),
    )
    for index, outcome in zip(members, member_outcomes, strict=True):
        outcomes[index] = outcome
    return outcomes


def _resume_point(state: Mapping[str, Any] | None) -> object:
    """Where a training goes on from, and how its network was computed."""
    if state is None:
        return None
    return state["step"], state.get("layout"), tuple(state.get("sparse", ())), state.get("compile")


def _train(
    runs: Sequence[TrainingRun],
    checkpoint_states: Sequence[Mapping[str, Any] | None],
    before_step: Callable[[], None] | None,
    on_leave: OnLeave,
) -> list[StackedOutcome]:
    first = runs[0]
    try:
        for run, state in zip(runs, checkpoint_states, strict=True):
            run.set_layout(state)
        step = StackedStep(runs)
        tests = _StackedTester(step, runs)
        for index, (run, state) in enumerate(zip(runs, checkpoint_states, strict=True)):
            run.optimiser_step = OptimiserSlice(step, index)
            run.start_test = partial(tests.begin, index)
            if state is not None:
                run.restore(state)
        lockstep = _Lockstep(runs, on_leave)
        with isolated_rng(first.device), first.device_context():
            lockstep.run(step, before_step)
        step.release()
        for run in runs:
            unstack(run.model)
        return [lockstep.failed.get(index) or run.finish(stack_size=len(runs)) for index, run in enumerate(runs)]
    finally:
        for run in runs:
            _detach_checkpoint(run)


def _begin_save(run: TrainingRun) -> None:
    if run.job.checkpoint is not None:
        run.job.checkpoint.begin_save()


def _detach_checkpoint(run: TrainingRun) -> None:
    if run.job.checkpoint is not None:
        run.job.checkpoint.detach()


class _StackedTester:
    """The test of all networks in one, begun when the first of them asks at the end of an epoch."""

    def __init__(self, step: StackedStep, runs: Sequence[TrainingRun]) -> None:
        first, self._losses = runs[0], step.loss_sum
        measure = partial(evaluate_test_set, dataset=first.dataset, autocast=first.autocast, num_networks=len(runs))
        self._tests = EpochTester(step.network, measure, first.device)
        self._step, self._sums = -1, EpochSums(torch.empty(0))

    def begin(self, index: int, loss_sum: Tensor, step: int) -> EpochSums:
        """That of one network; what its steps summed is a share of what those of all did."""
        if step != self._step:
            self._step, self._sums = step, self._tests.begin(self._losses)
        return self._sums.select(index)


class _Lockstep:
    """Trainings that stand at one step; `failed` by their places."""

    def __init__(self, runs: Sequence[TrainingRun], on_leave: OnLeave) -> None:
        self._runs, self._on_leave = runs, on_leave
        self.failed: dict[int, TickdslError] = {}

    def run(self, step: StackedStep, before_step: Callable[[], None] | None) -> None:
        """Take the remaining steps."""
        batch_stream = BatchStream(self._runs[0].dataset, [run.job.seed for run in self._runs])
        self._for_each(TrainingRun.begin)
        while (leader := self._first_unfinished()) is not None:
            if before_step is not None:
                before_step()
            images, labels, _ = batch_stream.batch(leader.step)
            # The stream of dropout, of which there is none.
            step.take(images, labels, None, lr=leader.lr, momentum=leader.momentum, seed=0)
            self._for_each(partial(TrainingRun.after_step, num_images=len(labels)))
            self._save_if_due()

    def _first_unfinished(self) -> TrainingRun | None:
        """One of the trainings that have steps left."""
        unfinished = (run for index, run in enumerate(self._runs) if index not in self.failed and not run.finished)
        return next(unfinished, None)

    def _for_each(self, work: Callable[[TrainingRun], object]) -> None:
        for index, run in enumerate(self._runs):
            if index not in self.failed:
                try:
                    work(run)
                except TickdslError as error:
                    self.failed[index] = error
                    _detach_checkpoint(run)
                    self._on_leave(index, error)

    def _save_if_due(self) -> None:
        """All at one step, so that they can be continued together."""
        if self._first_unfinished() is None:
            return
        due: list[bool] = []
        self._for_each(lambda run: due.append(run.job.checkpoint is not None and run.job.checkpoint.is_due()))
        if all(due):
            self._for_each(_begin_save)


class StackedStep(OptimiserStep):
    """Optimiser steps of a stacked network. `loss_sum` is [K]; each training's mean loss goes backwards by itself."""

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        first, count = runs[0], len(runs)
        network = self.network = StackedNetwork([run.model for run in runs])
        super().__init__(
            network, first.recipe, Masks(network, _masks(network, runs)), None, first.device, first.autocast
        )
        self.loss_sum = torch.zeros(count, dtype=torch.float64, device=first.device)
        self._loss_gradient = torch.ones(count, device=first.device)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(),
            label_smoothing=self._recipe.label_smoothing, reduction="none",
        )  # fmt: skip
        return losses.view(labels.shape).mean(0)


def _masks(network: StackedNetwork, runs: Sequence[TrainingRun]) -> dict[str, Tensor]:
    """The trainings' masks by the stacked parameters' names; a network without one keeps all."""
    masks = {}
    for name, parameter in network.one.named_parameters():
        if any(name in run.masks for run in runs):
            stacked_mask = torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
            for member_mask, run in zip(stacked_mask, runs, strict=True):
                if name in run.masks:
                    member_mask.copy_(run.masks[name])
            masks[f"one.{name}"] = stacked_mask
    return masks


class OptimiserSlice:
    """The steps of one training of a stack, as its course sees them."""

    def __init__(self, step: StackedStep, member: int) -> None:
        self._optimizer, self._member = step.optimizer, member
        self.loss_sum = step.loss_sum[member]

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state as that of a training alone."""
        state_dict = self._optimizer.state_dict()
        shares = {
            index: {name: value[self._member] if _is_stacked(value) else value for name, value in values.items()}
            for index, values in state_dict["state"].items()
        }
        return {**state_dict, "state": shares}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; what trainings of equal steps have in common is taken from the first."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if not self._optimizer.state:
            stacked_state = {
                index: {
                    name: torch.empty_like(parameters[index]) if _is_stacked(value) else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            }
            self._optimizer.load_state_dict({**state, "state": stacked_state})
        for index, values in state["state"].items():
            for name, value in values.items():
                if _is_stacked(value):
                    self._optimizer.state[parameters[index]][name][self._member].copy_(value)


def _is_stacked(value: object) -> bool:
    """Whether each training has a value of its own; Adam's count of steps is one number for all."""
    return isinstance(value, Tensor) and value.dim() > 0
