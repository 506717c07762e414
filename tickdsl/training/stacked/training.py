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
from tickdsl.training.autotune import Choices
from tickdsl.training.data.batches import Material, Reading
from tickdsl.training.epoch_evaluation import EpochSums, EpochTests
from tickdsl.training.history import History
from tickdsl.training.job import Assignment
from tickdsl.training.loop import own_randomness, train
from tickdsl.training.stacked.network import StackedNetwork, set_apart
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.training_run import Course, sums_of_tests

#: How one of several trainings ended; None: it was not begun.
Ending = History | TickdslError | None
#: Told by its place who leaves before the others end: with what failed, or not begun.
Leaves = Callable[[int, TickdslError | None], None]


def train_stacked(
    given: Sequence[Assignment],
    choices: Choices,
    *,
    device: torch.device | str = "cpu",
    between: Callable[[], None] | None = None,
    leaves: Leaves = lambda place, error: None,
) -> list[Ending]:
    """Train networks that `stackable.why_not` has nothing against, in place and in lockstep, as `train` does each.

    between is called before every step of all. A training that fails, because it diverged for example, fails alone; its
    share of the stack is computed on and thrown away. Trainings are continued together where their checkpoints stand at
    the same step; those that stand elsewhere than the first are not begun. Where none stands beside the first, it is
    trained alone, and raises what `train` raises.
    """
    device = torch.device(device)
    material = Material(given[0].data, given[0].recipe, device)
    courses = [Course(each, material, device) for each in given]
    found = [course.attach() for course in courses]
    together = [place for place, state in enumerate(found) if _standing(state) == _standing(found[0])]
    if found[0] is not None and (found[0].get("sparse") or found[0].get("compile")):
        together = [0]  # it keeps to what was chosen when it began
    endings: list[Ending] = [None] * len(given)
    for place, course in enumerate(courses):
        if place not in together:
            _detach(course)
            leaves(place, None)
    if len(together) == 1:
        _detach(courses[0])
        endings[0] = train(**given[0].arguments(), choices=choices, device=device, between=between)
        return endings
    ended = _train(
        [courses[place] for place in together],
        [found[place] for place in together],
        between,
        lambda place, error: leaves(together[place], error),
    )
    for place, ending in zip(together, ended, strict=True):
        endings[place] = ending
    return endings


def _standing(state: Mapping[str, Any] | None) -> object:
    """Where a training goes on from, and how its network was computed."""
    if state is None:
        return None
    return state["step"], state.get("layout"), tuple(state.get("sparse", ())), state.get("compile")


def _train(
    courses: Sequence[Course],
    found: Sequence[Mapping[str, Any] | None],
    between: Callable[[], None] | None,
    leaves: Leaves,
) -> list[Ending]:
    first = courses[0]
    try:
        for course, state in zip(courses, found, strict=True):
            course.lay_out(state)
        step = StackedStep(courses)
        tests = _Tests(step, courses)
        for place, (course, state) in enumerate(zip(courses, found, strict=True)):
            course.optimiser_step = Share(step, place)
            course.test = partial(tests.begin, place)
            if state is not None:
                course.restore(state)
        lockstep = _Lockstep(courses, leaves)
        with own_randomness(first.device), first.settings():
            lockstep.run(step, between)
        step.release()
        for course in courses:
            set_apart(course.model)
        return [
            lockstep.failed.get(place) or course.finish(stacked=len(courses)) for place, course in enumerate(courses)
        ]
    finally:
        for course in courses:
            _detach(course)


def _save(course: Course) -> None:
    if course.given.checkpoint is not None:
        course.given.checkpoint.begin()


def _detach(course: Course) -> None:
    if course.given.checkpoint is not None:
        course.given.checkpoint.detach()


class _Tests:
    """The test of all networks in one, begun when the first of them asks at the end of an epoch."""

    def __init__(self, step: StackedStep, courses: Sequence[Course]) -> None:
        first, self._losses = courses[0], step.loss_sum
        measure = partial(sums_of_tests, material=first.material, autocast=first.autocast, together=len(courses))
        self._tests = EpochTests(step.network, measure, first.device)
        self._at, self._sums = -1, EpochSums(torch.empty(0))

    def begin(self, place: int, loss_sum: Tensor, step: int) -> EpochSums:
        """That of one network; what its steps summed is a share of what those of all did."""
        if step != self._at:
            self._at, self._sums = step, self._tests.begin(self._losses)
        return self._sums.of(place)


class _Lockstep:
    """Trainings that stand at one step; `failed` by their places."""

    def __init__(self, courses: Sequence[Course], leaves: Leaves) -> None:
        self._courses, self._leaves = courses, leaves
        self.failed: dict[int, TickdslError] = {}

    def run(self, step: StackedStep, between: Callable[[], None] | None) -> None:
        """Take the remaining steps."""
        reading = Reading(self._courses[0].material, [course.given.seed for course in self._courses])
        self._each(Course.begin)
        while (clock := self._clock()) is not None:
            if between is not None:
                between()
            pictures, answers, _ = reading.batch(clock.step)
            # The stream of dropout, of which there is none.
            step.take(pictures, answers, None, rate=clock.rate, momentum=clock.momentum, seed=0)
            self._each(partial(Course.stepped, pictures=len(answers)))
            self._save_if_due()

    def _clock(self) -> Course | None:
        """One of the trainings that have steps left."""
        left = (course for place, course in enumerate(self._courses) if place not in self.failed and not course.over)
        return next(left, None)

    def _each(self, work: Callable[[Course], object]) -> None:
        for place, course in enumerate(self._courses):
            if place not in self.failed:
                try:
                    work(course)
                except TickdslError as error:
                    self.failed[place] = error
                    _detach(course)
                    self._leaves(place, error)

    def _save_if_due(self) -> None:
        """All at one step, so that they can be continued together."""
        if self._clock() is None:
            return
        due: list[bool] = []
        self._each(lambda course: due.append(course.given.checkpoint is not None and course.given.checkpoint.due()))
        if all(due):
            self._each(_save)


class StackedStep(OptimiserStep):
    """Optimiser steps of a stacked network. `loss_sum` is [K]; each training's mean loss goes backwards by itself."""

    def __init__(self, courses: Sequence[Course]) -> None:
        first, count = courses[0], len(courses)
        network = self.network = StackedNetwork([course.model for course in courses])
        super().__init__(
            network, first.recipe, Masks(network, _masks(network, courses)), None, first.device, first.autocast
        )
        self.loss_sum = torch.zeros(count, dtype=torch.float64, device=first.device)
        self._from_above = torch.ones(count, device=first.device)

    def _loss(self, scores: Tensor, answers: Tensor) -> Tensor:
        each = F.cross_entropy(
            scores.flatten(0, 1), answers.flatten(),
            label_smoothing=self._recipe.label_smoothing, reduction="none",
        )  # fmt: skip
        return each.view(answers.shape).mean(0)


def _masks(network: StackedNetwork, courses: Sequence[Course]) -> dict[str, Tensor]:
    """The trainings' masks by the stacked parameters' names; a network without one keeps all."""
    found = {}
    for name, parameter in network.one.named_parameters():
        if any(name in course.kept for course in courses):
            whole = torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
            for share, course in zip(whole, courses, strict=True):
                if name in course.kept:
                    share.copy_(course.kept[name])
            found[f"one.{name}"] = whole
    return found


class Share:
    """The steps of one training of a stack, as its course sees them."""

    def __init__(self, step: StackedStep, place: int) -> None:
        self._optimizer, self._place = step.optimizer, place
        self.loss_sum = step.loss_sum[place]

    def state(self) -> dict[str, Any]:
        """The optimiser's state as that of a training alone."""
        whole = self._optimizer.state_dict()
        shares = {
            index: {name: value[self._place] if _is_stacked(value) else value for name, value in values.items()}
            for index, values in whole["state"].items()
        }
        return {**whole, "state": shares}

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; what trainings of equal steps have in common is taken from the first."""
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if not self._optimizer.state:
            wide = {
                index: {
                    name: torch.empty_like(parameters[index]) if _is_stacked(value) else value
                    for name, value in values.items()
                }
                for index, values in state["state"].items()
            }
            self._optimizer.load_state_dict({**state, "state": wide})
        for index, values in state["state"].items():
            for name, value in values.items():
                if _is_stacked(value):
                    self._optimizer.state[parameters[index]][name][self._place].copy_(value)


def _is_stacked(value: object) -> bool:
    """Whether each training has a value of its own; Adam's count of steps is one number for all."""
    return isinstance(value, Tensor) and value.dim() > 0
