"""One training and how far it has come: what lies between two optimiser steps, and what goes on a checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.training.autotune import Choices
from tickdsl.training.checkpoints import identity
from tickdsl.training.data.batches import Material
from tickdsl.training.devices import LAYOUTS, autocast_type, fitting_layout, fitting_memory_format, set_memory_format
from tickdsl.training.epoch_evaluation import EpochSums, EpochTests
from tickdsl.training.evaluation import evaluation_sums, from_sums
from tickdsl.training.history import EpochReport, History
from tickdsl.training.job import Assignment, State
from tickdsl.training.step.distillation import Teaching
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.step.sparse_layers import SparseLayers, choose

_EVALUATION_BATCH = 1000

#: Begins the test of a network, given the loss that an epoch's steps summed, after so many steps.
Test = Callable[[Tensor, int], EpochSums]


def sums_of_tests(
    network: nn.Module, material: Material, autocast: torch.dtype | None, together: int | None = None
) -> Tensor:
    """`evaluation_sums` on the test set."""
    return evaluation_sums(network, *material.test, material.normalise, _EVALUATION_BATCH, autocast, together)


@contextmanager
def _cuda(device: torch.device) -> Iterator[None]:
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        with torch.cuda.device(device):
            yield
    finally:
        torch.backends.cudnn.benchmark = before


class Steps(Protocol):
    """What optimiser steps remember. loss_sum: float64 [], the loss of every picture since it was last zeroed."""

    loss_sum: Tensor

    def state(self) -> dict[str, Any]:
        """The optimiser's state, as torch's optimisers give it."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""


@attrs.frozen(eq=False)
class Ended:
    """An epoch whose last step was `step`, on `seen` pictures; its test may still be under way."""

    step: int
    seen: int
    tested: EpochSums

    def known(self) -> dict[str, Any]:
        """As numbers, for a checkpoint."""
        return {"step": self.step, "seen": self.seen, "sums": self.tested.wait()}

    @classmethod
    def from_known(cls, step: int, seen: int, sums: list[float]) -> Ended:
        """What gave these numbers."""
        return cls(step, seen, EpochSums(torch.tensor(sums, dtype=torch.float64)))


class Course:
    """A training in its course: it counts steps that others take, tests, reports, and keeps what a checkpoint wants."""

    optimiser_step: Steps

    def __init__(self, given: Assignment, material: Material, device: torch.device) -> None:
        self.given, self.material, self.device = given, material, device
        recipe = self.recipe = given.recipe
        self.per_epoch = material.per_epoch
        total = recipe.steps(self.per_epoch)
        self.start, self.stop = given.start, total if given.stop is None else given.stop
        if not 0 <= self.start <= self.stop <= total:
            raise ValueError(f"steps {self.start} to {self.stop} of a recipe of {total}")
        try:
            self.rates = recipe.learning_rates(self.per_epoch).tolist()
        except ValueError as error:
            raise TickdslError(f"the recipe does not fit {material.name}: {error}", "change `train`") from error
        momenta = recipe.momenta(self.per_epoch)
        self.momenta = momenta.tolist() if recipe.schedule == "one-cycle" else None
        self.autocast = autocast_type(recipe.precision, device)

        self.model = given.model.to(device).train()
        self.kept = {name: mask.to(device) for name, mask in given.masks.items()}
        Masks(self.model, self.kept).apply()
        self.sparse = SparseLayers(self.model, {}, ())
        self.layout, self.compile = "contiguous", False

        measure = partial(sums_of_tests, material=material, autocast=self.autocast)
        tests = EpochTests(self.model, measure, device)
        self.test: Test = lambda loss_sum, step: tests.begin(loss_sum)
        self.step = self.start
        self.seen = 0  # pictures of this epoch
        self.ended: Ended | None = None
        self.seconds = 0.0  # spent on this epoch before the clock below
        self.clock = time.monotonic()
        self.reports: list[EpochReport] = []

    def attach(self) -> Mapping[str, Any] | None:
        """Let the checkpoint serve this training, whose first weights are still there; what it goes on from."""
        given = self.given
        if given.checkpoint is None:
            return None
        taught = given.lesson.identity() if given.lesson is not None else None
        first = identity(
            self.model, given.masks, self.recipe, self.material.fingerprint, given.seed, self.start, self.stop, taught
        )
        given.checkpoint.attach(first, self.capture)
        found = given.checkpoint.load()
        if found is not None and found.get("sparse") and self.device.type != "cpu":
            return None  # its optimiser's state is of sparse weights, which only a CPU computes with
        return found

    def teaching(self) -> Teaching | None:
        """The training's teacher, on the device."""
        lesson, device = self.given.lesson, self.device
        if lesson is None:
            return None
        set_memory_format(lesson.teacher, fitting_memory_format(lesson.teacher.to(device), device, self.autocast))
        teaching = Teaching(lesson, device, self.autocast)
        if not self.recipe.augment:
            teaching.prepare(self.material.images, self.material.normalise)
        return teaching

    def lay_out(self, found: Mapping[str, Any] | None) -> None:
        """Lay the network out in memory as it is trained."""
        kept = found.get("layout") if found is not None else None
        self.layout = kept or self.given.layout or fitting_layout(self.model, self.device, self.autocast)
        set_memory_format(self.model, LAYOUTS[self.layout])

    def prepare(self, choices: Choices, found: Mapping[str, Any] | None, teaching: Teaching | None) -> OptimiserStep:
        """Lay out the layers as they are trained, make the optimiser, and go on from `found` where there is that."""
        self.lay_out(found)
        self.compile = self.given.compiles
        if found is not None:
            sparsely = tuple(found.get("sparse", ()))
            self.compile = bool(found.get("compile", self.compile))
        else:
            sparsely = self.sparse_layers(choices)
        self.sparse = SparseLayers(self.model, self.kept, sparsely)
        masks = Masks(self.model, self.sparse.others(self.kept))
        step = self.optimiser_step = OptimiserStep(
            self.model, self.recipe, masks, teaching, self.device, self.autocast, self.compile
        )
        if found is not None:
            self.restore(found)
        return step

    def sparse_layers(self, choices: Choices) -> tuple[str, ...]:
        """The layers that are trained sparsely where nothing was chosen yet."""
        if self.device.type != "cpu" or self.autocast is not None or self.compile:
            return ()
        pictures = self.material.normalise(self.material.images[: self.recipe.batch])
        return choose(self.model, self.kept, pictures, choices)

    def settings(self) -> AbstractContextManager[object]:
        """On CUDA, let cuDNN choose its fastest algorithms: shapes stay the same for a whole training."""
        return _cuda(self.device) if self.device.type == "cuda" else nullcontext()

    def begin(self) -> None:
        """Nothing is left to prepare: time counts from now on."""
        self.clock = time.monotonic()
        self._pass_moment()

    @property
    def rate(self) -> float:
        """The rate of the next step."""
        return float(self.rates[self.step])

    @property
    def momentum(self) -> float | None:
        """The momentum of the next step; None where it is always the recipe's."""
        return None if self.momenta is None else self.momenta[self.step]

    @property
    def over(self) -> bool:
        """Whether the last step was taken."""
        return self.step >= self.stop

    def stepped(self, pictures: int) -> None:
        """An optimiser step was taken on so many pictures. Raises TickdslError where an epoch before it diverged."""
        self.seen += pictures
        self.step += 1
        if self.over or self.step % self.per_epoch == 0:
            self._report()
            self.ended = Ended(self.step, self.seen, self.test(self.optimiser_step.loss_sum, self.step))
            self.optimiser_step.loss_sum.zero_()
            self.seen = 0
        if self.over or (self.ended is not None and self.ended.tested.ready()):
            self._report()
        self._pass_moment()

    def _pass_moment(self) -> None:
        if self.step in self.given.moments:
            self._report()  # weights of a training that diverged are nobody's
            self.given.moments[self.step](self._weights())

    def _weights(self) -> State:
        return {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}

    def _report(self) -> None:
        """Report the epoch that ended, where that is still to be done: a training's only wait for the device."""
        if self.ended is None:
            return
        ended, self.ended = self.ended, None
        epoch, rate = (ended.step - 1) // self.per_epoch, self.rates[ended.step - 1]
        loss_sum, *sums = ended.tested.wait()
        train_loss = loss_sum / ended.seen
        if not math.isfinite(train_loss):
            raise TickdslError(
                f"the loss is {train_loss} in epoch {epoch + 1} (lr {rate:g}): the training diverged",
                "lower lr, add a warmup, or use precision=fp32",
            )
        result = from_sums(sums, len(self.material.test[1]))
        now = time.monotonic()
        report = EpochReport(
            epoch=epoch + 1,
            epochs=math.ceil(self.stop / self.per_epoch),
            step=ended.step,
            train_loss=train_loss,
            test_loss=result.loss,
            test_accuracy=result.accuracy,
            lr=rate,
            seconds=self.seconds + now - self.clock,
        )
        self.reports.append(report)
        self.clock, self.seconds = now, 0.0
        if self.given.on_epoch is not None:
            self.given.on_epoch(report)

    def finish(self, stacked: int = 1) -> History:
        """The history of a training that is over; its network is left in the plain memory layout.

        Raises MaskError where a pruned weight is not zero.
        """
        Masks(self.model, self.kept).check()
        set_memory_format(self.model, torch.contiguous_format)
        return History(
            self.start, self.stop, self.per_epoch, tuple(self.reports),
            self.sparse.names, self.layout, self.compile, stacked,
        )  # fmt: skip

    def capture(self) -> dict[str, Any]:
        """Everything that the remaining steps depend on, as tensors, numbers and text."""
        return {
            "step": self.step,
            "sparse": list(self.sparse.names),
            "layout": self.layout,
            "compile": self.compile,
            "model": self.model.state_dict(),
            "optimizer": self.optimiser_step.state(),
            "loss_sum": self.optimiser_step.loss_sum,
            "seen": self.seen,
            "seconds": self.seconds + time.monotonic() - self.clock,
            "reports": [attrs.asdict(report) for report in self.reports],
            "ended": None if self.ended is None else self.ended.known(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `capture` gave."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimiser_step.load(state["optimizer"])
        self.optimiser_step.loss_sum.copy_(state["loss_sum"])
        self.seen = state["seen"]
        self.seconds = state["seconds"]
        self.reports = [EpochReport(**report) for report in state["reports"]]
        ended = state.get("ended")
        self.ended = None if ended is None else Ended.from_known(**ended)
