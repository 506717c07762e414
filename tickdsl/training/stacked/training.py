"""Several trainings in lockstep as one stacked network, with one optimiser step for all of them.

A small network leaves a large GPU idle; a stack of eight gives it eight times the work with the same number of kernel
launches. Each training keeps its own batch order, augmentations, masks, tests, checkpoints and step callbacks, and can
fail alone. Results equal those of single trainings up to rounding, since sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.training.async_evaluation import EpochSums
from tickdsl.training.data.batch_stream import BatchStream
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.epoch_evaluation import EpochTester
from tickdsl.training.history import TrainingHistory
from tickdsl.training.job import TrainingJob
from tickdsl.training.loop import isolated_rng, train
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.stacked.network import unstack
from tickdsl.training.stacked.optimiser_step import OptimiserSlice, StackedStep
from tickdsl.training.training_run import TrainingRun, evaluate_watched_set

#: A training's history, or the error that it failed with; None if it was not started.
StackedOutcome = TrainingHistory | TickdslError | None
#: Called with the index of a training that fails, and its error, or that is not started, and None.
OnLeave = Callable[[int, TickdslError | None], None]


def train_stacked(
    jobs: Sequence[TrainingJob],
    choices: MeasuredChoices,
    *,
    device: torch.device | str = "cpu",
    before_step: Callable[[], None] | None = None,
    on_leave: OnLeave = lambda index, error: None,
) -> list[StackedOutcome]:
    """Train the networks of several jobs in place and in lockstep, each with the results of `train`.

    The jobs must have no `stacking_obstacle`. before_step: called before every common step. on_leave: called as soon
    as a training fails or is not started. A training that fails, for example because it diverges, fails alone; the
    stack keeps computing its slice and discards it.

    Trainings resume together if their checkpoints are at the same step; those at another step than the first job's
    are not started. If only the first job is left, it is trained alone, and raises what `train` raises.
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
        members = [0]  # a resumed training keeps its sparse layers and its compilation
    outcomes: list[StackedOutcome] = [None] * len(jobs)
    for index, run in enumerate(runs):
        if index not in members:
            _detach_checkpoint(run)
            on_leave(index, None)
    if len(members) == 1:
        _detach_checkpoint(runs[0])
        outcomes[0] = train(**jobs[0].as_kwargs(), choices=choices, device=device, before_step=before_step)
        return outcomes
    member_outcomes = _train_in_lockstep(
        [runs[index] for index in members],
        [checkpoint_states[index] for index in members],
        before_step,
        lambda index, error: on_leave(members[index], error),
    )
    for index, outcome in zip(members, member_outcomes, strict=True):
        outcomes[index] = outcome
    return outcomes


def _resume_point(state: Mapping[str, Any] | None) -> object:
    """The step that a training resumes from, and how its network is computed."""
    if state is None:
        return None
    return state["step"], state.get("layout"), tuple(state.get("sparse", ())), state.get("compile")


def _train_in_lockstep(
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
        tester = _StackedTester(step, runs)
        for index, (run, state) in enumerate(zip(runs, checkpoint_states, strict=True)):
            run.optimiser_step = OptimiserSlice(step, index)
            run.start_test = partial(tester.begin, index)
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
    """Tests all networks as one stack, when the first of them ends an epoch."""

    def __init__(self, step: StackedStep, runs: Sequence[TrainingRun]) -> None:
        first, self._losses = runs[0], step.loss_sum
        scores = None
        if first.scores is not None:
            scores = first.scores.unsqueeze(1).repeat(1, len(runs))
            for run, column in zip(runs, scores.unbind(1), strict=True):
                run.scores = column
        evaluate = partial(
            evaluate_watched_set,
            dataset=first.dataset,
            autocast=first.autocast,
            num_networks=len(runs),
            scores=scores,
        )
        self._tester = EpochTester(step.network, evaluate, first.device)
        self._step, self._sums = -1, EpochSums(torch.empty(0))

    def begin(self, index: int, loss_sum: Tensor, step: int) -> EpochSums:
        """The test of one network; its `loss_sum` is a slice of the stack's, and is not used."""
        if step != self._step:
            self._step, self._sums = step, self._tester.begin(self._losses)
        return self._sums.select(index)


class _Lockstep:
    """Trainings that are at the same step; `failed` holds errors by the training's index."""

    def __init__(self, runs: Sequence[TrainingRun], on_leave: OnLeave) -> None:
        self._runs, self._on_leave = runs, on_leave
        self.failed: dict[int, TickdslError] = {}
        self._share_usage()

    def run(self, step: StackedStep, before_step: Callable[[], None] | None) -> None:
        """Take the remaining steps."""
        seeds, first = [run.job.seed for run in self._runs], self._runs[0]
        self._for_each(TrainingRun.begin)
        with closing(BatchStream(first.dataset, seeds, first.stop, self._count_wait)) as batch_stream:
            self._take_steps(step, batch_stream, before_step)

    def _count_wait(self, seconds: float) -> None:
        for run in self._runs:
            run.count_wait(seconds / len(self._runs))

    def _take_steps(self, step: StackedStep, batch_stream: BatchStream, before_step: Callable[[], None] | None) -> None:
        while (leader := self._first_unfinished()) is not None:
            if before_step is not None:
                before_step()
            images, targets, _ = batch_stream.batch(leader.step)
            # The seed is that of dropout; networks with dropout are never stacked.
            step.take(images, targets, None, lr=leader.lr, momentum=leader.momentum, seed=0)
            self._for_each(partial(TrainingRun.after_step, weight=leader.task.weight(targets)))
            self._save_if_due()

    def _first_unfinished(self) -> TrainingRun | None:
        """The first training that has steps left and has not failed."""
        unfinished = (run for index, run in enumerate(self._runs) if index not in self.failed and not run.finished)
        return next(unfinished, None)

    def _for_each(self, work: Callable[[TrainingRun], object]) -> None:
        for index, run in enumerate(self._runs):
            if index not in self.failed:
                try:
                    work(run)
                except TickdslError as error:
                    self.failed[index] = error
                    self._share_usage()
                    _detach_checkpoint(run)
                    self._on_leave(index, error)

    def _share_usage(self) -> None:
        """Count an equal share of time and energy for each training that goes on."""
        for index, run in enumerate(self._runs):
            if index not in self.failed:
                run.job.usage.set_share(len(self._runs) - len(self.failed))

    def _save_if_due(self) -> None:
        """Save all trainings at the same step, so that they can resume together."""
        if self._first_unfinished() is None:
            return
        due: list[bool] = []
        self._for_each(lambda run: due.append(run.job.checkpoint is not None and run.job.checkpoint.is_due()))
        if all(due):
            self._for_each(_begin_save)
