"""The state of one training between optimiser steps: its progress, its epochs' tests, and its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor, nn

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.async_evaluation import EpochSums
from tickdsl.training.checkpoints import training_identity
from tickdsl.training.data.device_dataset import DeviceDataset
from tickdsl.training.devices import autocast_type, float32_format
from tickdsl.training.epoch_evaluation import EpochTester
from tickdsl.training.evaluation import EvaluationResult, evaluation_from_sums, evaluation_sums, score_buffer
from tickdsl.training.history import EpochReport, TrainingHistory
from tickdsl.training.job import StateDict, TrainingJob
from tickdsl.training.measured_choices import MeasuredChoices
from tickdsl.training.memory_layouts import (
    LAYOUTS,
    PROBE_IMAGES,
    preferred_layout,
    preferred_memory_format,
    set_memory_format,
)
from tickdsl.training.parallel.ranks import Ranks
from tickdsl.training.sparsifiers.protocol import ActiveSparsifier, SparseNetwork
from tickdsl.training.step.average import WeightAverage
from tickdsl.training.step.distillation import Distiller
from tickdsl.training.step.losses import class_weights, training_loss
from tickdsl.training.step.masks import Masks
from tickdsl.training.step.optimiser_step import OptimiserStep
from tickdsl.training.step.phased_step import PhasedStep
from tickdsl.training.step.sparse_layers import SparseLayers, choose_sparse_layers
from tickdsl.training.validation import LossCurve, patience_is_over, require_validation

_EVALUATION_BATCH = 1000

#: Starts testing a network at the end of an epoch, given the epoch's summed training loss and the step.
StartTest = Callable[[Tensor, int], EpochSums]


def evaluate_watched_set(
    network: nn.Module,
    dataset: DeviceDataset,
    autocast: torch.dtype | None,
    num_networks: int | None = None,
    scores: Tensor | None = None,
    ranks: Ranks | None = None,
) -> Tensor:
    """`evaluation_sums` on the validation set, or on the test set if there is none. scores: filled in a test only."""
    return evaluation_sums(
        network, *dataset.watched_set, dataset.preprocess, _EVALUATION_BATCH, autocast, num_networks,
        scores if dataset.validation_set is None else None, dataset.task, ranks,
    )  # fmt: skip


@contextmanager
def _cuda_context(device: torch.device, precision: str) -> Iterator[None]:
    previous = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        with torch.cuda.device(device), float32_format(precision, device):
            yield
    finally:
        torch.backends.cudnn.benchmark = previous


class OptimiserState(Protocol):
    """State that optimiser steps keep. loss_sum: float64 [], the training loss summed over the epoch's terms."""

    loss_sum: Tensor

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state, as `torch.optim.Optimizer.state_dict` returns it."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


@attrs.frozen(eq=False)
class FinishedEpoch:
    """An epoch whose last step is done; its test may still be running.

    step: the number of steps taken at its end; seen: the number of terms of the loss in it, for most
    tasks of images.
    """

    step: int
    seen: int
    test_sums: EpochSums

    def to_state(self) -> dict[str, Any]:
        """The epoch as numbers, for a checkpoint. Waits for its test."""
        return {"step": self.step, "seen": self.seen, "sums": self.test_sums.wait()}

    @classmethod
    def from_state(cls, step: int, seen: int, sums: list[float]) -> FinishedEpoch:
        """The epoch that `to_state` was called on."""
        return cls(step, seen, EpochSums(torch.tensor(sums, dtype=torch.float64)))


class TrainingRun:
    """A training in progress.

    Its caller takes the optimiser steps; it counts them, tests and reports epochs, and captures and restores the state
    for checkpoints.
    """

    optimiser_step: OptimiserState

    def __init__(self, job: TrainingJob, dataset: DeviceDataset, device: torch.device) -> None:
        self.job, self.dataset, self.device = job, dataset, device
        recipe = self.recipe = job.recipe
        self.task = dataset.task
        self.class_weights = class_weights(self.task, recipe, dataset.targets, dataset.classes)
        training_loss(self.task, recipe, self.class_weights)  # raises if the recipe does not fit
        if recipe.mixes and not self.task.takes_probabilities:
            option = "mixup" if recipe.mixup else "cutmix"
            raise TickdslError(
                f"{option}=: the loss of the task `{self.task.name}` takes no mixed targets",
                "leave out `mixup=` and `cutmix=`, which are for classifiers",
            )
        if recipe.mixes and dataset.has_several_inputs:
            option = "mixup" if recipe.mixup else "cutmix"
            raise TickdslError(
                f"{option}=: {dataset.name} has several inputs, which are not mixed",
                "leave out `mixup=` and `cutmix=`, which are for images",
            )
        self.steps_per_epoch = dataset.steps_per_epoch
        total = recipe.steps(self.steps_per_epoch)
        self.start, self.stop = job.start, total if job.stop is None else job.stop
        if not 0 <= self.start <= self.stop <= total:
            raise ValueError(f"steps {self.start} to {self.stop} are not within the recipe's {plural(total, 'step')}")
        try:
            self.learning_rates = recipe.learning_rates(self.steps_per_epoch).tolist()
        except ValueError as error:
            raise TickdslError(f"the recipe does not fit {dataset.name}: {error}", "change `train`") from error
        momenta = recipe.momenta(self.steps_per_epoch)
        cycles_momentum = recipe.schedule == "one-cycle" and not recipe.has_own_optimiser
        self.momenta = momenta.tolist() if cycles_momentum else None
        if dataset.validation_set is None:
            require_validation(recipe, job.measure_every, dataset.name)
        self.autocast = autocast_type(recipe.precision, device)

        self.model = job.model.to(device).train()
        self.masks = {name: mask.to(device) for name, mask in job.masks.items()}
        Masks(self.model, self.masks).apply()
        self.sparse_layers = SparseLayers(self.model, {}, ())
        self.sparsifier: ActiveSparsifier | None = None
        self.average: WeightAverage | None = None
        self.layout, self.compile = "contiguous", False

        #: [N]: the scores of the test images in the latest test, if they have any. Every test fills it; a training ends
        #: with a test, also if it was resumed.
        self.scores = score_buffer(self.task, len(dataset.test_set[1]), device)
        evaluate = partial(
            evaluate_watched_set, dataset=dataset, autocast=self.autocast, scores=self.scores, ranks=job.ranks
        )
        # Processes that train together test at once, so that all of them call each other in the same order.
        tester = EpochTester(self.model, evaluate, device, at_once=job.ranks is not None)
        self.start_test: StartTest = lambda loss_sum, step: tester.begin(loss_sum)
        self.step = self.start
        self.terms_seen = 0  # in this epoch
        self.finished_epoch: FinishedEpoch | None = None
        self.reports: list[EpochReport] = []
        self.loss_curve = LossCurve()
        self.wait_seconds = 0.0

    def count_wait(self, seconds: float) -> None:
        """Count time that the training waited for its data."""
        self.wait_seconds += seconds

    def attach_checkpoint(self) -> Mapping[str, Any] | None:
        """Attach the job's checkpointer, and return the state to resume from, if any.

        Call this while the model still has its initial weights, since they identify the training.
        """
        job = self.job
        if job.checkpoint is None and job.ranks is None:
            return None
        identities = [each.identity() for each in (job.distillation, job.sparsifier) if each is not None]
        identity = training_identity(
            self.model,
            job.masks,
            self.recipe,
            self.dataset.fingerprint,
            job.seed,
            self.start,
            self.stop,
            *identities,
        )
        checkpoint_state: Mapping[str, Any] | None = None
        if job.checkpoint is not None:
            job.checkpoint.attach(identity, self.capture)
            checkpoint_state = job.checkpoint.load()
        if job.ranks is not None:
            job.ranks.require_equal("what they train", identity)
            checkpoint_state = job.ranks.of_first(checkpoint_state)
        if checkpoint_state is not None and checkpoint_state.get("sparse") and self.device.type != "cpu":
            return None  # the optimiser's state is that of sparse weights, which only a CPU trains
        return checkpoint_state

    def make_distiller(self) -> Distiller | None:
        """The distiller with the job's teacher on the device; None if the job has no teacher."""
        distillation, device = self.job.distillation, self.device
        if distillation is None:
            return None
        if self.task.phases:
            raise TickdslError(
                f"the task `{self.task.name}` trains parts of a network in turn, by losses that know no teacher",
                "leave out `distill`",
            )
        teacher = distillation.teacher.to(device)
        set_memory_format(teacher, preferred_memory_format(teacher, device, self.autocast, self._probe_images()))
        distiller = Distiller(distillation, device, self.autocast, self.task)
        if not self.recipe.augment and not self.recipe.mixes and not self.recipe.resize_from:
            distiller.precompute(self.dataset.inputs, self.dataset.preprocess)
        return distiller

    def set_layout(self, checkpoint_state: Mapping[str, Any] | None) -> None:
        """Convert the network to its memory layout: the checkpoint's, else the job's, else the preferred one."""
        saved_layout = checkpoint_state.get("layout") if checkpoint_state is not None else None
        self.layout = (
            saved_layout
            or self.job.layout
            or preferred_layout(self.model, self.device, self.autocast, self._probe_images())
        )
        set_memory_format(self.model, LAYOUTS[self.layout])

    def _probe_images(self) -> Tensor:
        """Some training images, to see what a network takes."""
        return self.dataset.preprocess(self.dataset.inputs[:PROBE_IMAGES])

    def prepare(
        self, choices: MeasuredChoices, checkpoint_state: Mapping[str, Any] | None, distiller: Distiller | None
    ) -> OptimiserStep:
        """Set the layout, replace sparse layers, create the optimiser step, and restore the checkpoint, if any."""
        self.set_layout(checkpoint_state)
        self.compile = self.job.should_compile
        if checkpoint_state is not None:
            sparse_names = tuple(checkpoint_state.get("sparse", ()))
            self.compile = bool(checkpoint_state.get("compile", self.compile))
        else:
            sparse_names = self.choose_sparse_layers(choices)
        self.sparse_layers = SparseLayers(self.model, self.masks, sparse_names)
        masks = Masks(self.model, self.sparse_layers.remaining_masks(self._masks_with_sparsified()))
        optimiser_step = self.optimiser_step = self._make_step(masks, distiller)
        self.average = optimiser_step.average
        if self.job.sparsifier is not None:
            names = {*masks.names, *self.job.sparsifier.names}
            parameters = {name: p for name, p in self.model.named_parameters() if name in names}
            network = SparseNetwork(self.model, parameters, masks, optimiser_step.optimizer, self.job.seed)
            self.sparsifier = self.job.sparsifier.start(network)
            optimiser_step.add_terms(self.sparsifier.gradient_terms)
        if checkpoint_state is not None:
            self.restore(checkpoint_state)
        return optimiser_step

    def _make_step(self, masks: Masks, distiller: Distiller | None) -> OptimiserStep:
        """The step of the task: all parameters by one loss, or parts of the network in turn."""
        if self.task.phases:
            return PhasedStep(
                self.model, self.recipe, masks, self.device, self.autocast, self.compile, self.task, self.job.ranks
            )
        return OptimiserStep(
            self.model, self.recipe, masks, distiller, self.device, self.autocast, self.compile, self.task,
            self.class_weights, self.job.ranks,
        )  # fmt: skip

    def _masks_with_sparsified(self) -> dict[str, Tensor]:
        """The masks, with one that keeps everything for each parameter that the sparsifier will prune."""
        sparsifier = self.job.sparsifier
        if sparsifier is None or not sparsifier.changes_masks:
            return self.masks
        parameters = dict(self.model.named_parameters())
        unpruned = [name for name in sparsifier.names if name not in self.masks]
        return {**self.masks, **{name: torch.ones_like(parameters[name], dtype=torch.bool) for name in unpruned}}

    def choose_sparse_layers(self, choices: MeasuredChoices) -> tuple[str, ...]:
        """The names of the layers to train as sparse matrices in a training that is not resumed."""
        if self.device.type != "cpu" or self.autocast is not None or self.compile or self.job.sparsifier is not None:
            return ()
        if self.recipe.has_own_optimiser:  # which may look at whole layers
            return ()
        rows = self.recipe.batch // (1 if self.job.ranks is None else self.job.ranks.size)
        images = self.dataset.preprocess(self.dataset.inputs[:rows])
        return choose_sparse_layers(self.model, self.masks, images, choices)

    def device_context(self) -> AbstractContextManager[object]:
        """On CUDA, use the recipe's precision, and let cuDNN choose by speed unless bits have to be equal."""
        return _cuda_context(self.device, self.recipe.precision) if self.device.type == "cuda" else nullcontext()

    def begin(self) -> None:
        """Start to count the time, and call the step callbacks of the first step."""
        self.job.usage.resume()
        if self.step == self.start:
            self.change_masks_if_due(self.step)
        self._call_step_callbacks()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.learning_rates[self.step])

    @property
    def momentum(self) -> float | None:
        """The momentum of the next step; None if it is constant."""
        return None if self.momenta is None else self.momenta[self.step]

    @property
    def finished(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.stop

    def replaces_step(self) -> bool:
        """Whether the next step only gives the gradients for a change of the masks."""
        return self.sparsifier is not None and self.sparsifier.replaces(self.step)

    def before_step(self) -> None:
        """Tell the sparsifier that the next step begins."""
        if self.sparsifier is not None:
            self.sparsifier.before_step(self.step)

    def change_masks_if_due(self, step: int) -> None:
        """Let the sparsifier change the network once `step` steps are taken, if it is due."""
        if self.sparsifier is not None and self.sparsifier.is_due(step):
            self.change_masks(step)

    def change_masks(self, step: int, gradients: Mapping[str, Tensor] | None = None) -> None:
        """Let the sparsifier change the network. gradients: those of the step that it replaces."""
        assert self.sparsifier is not None
        self.sparsifier.change(step, gradients)
        if self.average is not None:
            self.average.forget_zeros()
        if self.job.sparsifier is not None and self.job.sparsifier.changes_masks:
            self.masks = self.sparsifier.network.masks.current()

    def after_step(self, weight: int) -> None:
        """Count an optimiser step on `weight` terms of the loss. Raises TickdslError if a finished epoch diverged."""
        self.terms_seen += weight
        self.step += 1
        if self.finished or self.step % self.steps_per_epoch == 0:
            self._report_epoch()
            if self.job.ranks is not None:
                self.job.ranks.require_equal_tensors("the weights", self.model.state_dict().values())
            with self._averaged():
                test_sums = self.start_test(self.optimiser_step.loss_sum, self.step)
            self.finished_epoch = FinishedEpoch(self.step, self.terms_seen, test_sums)
            self.optimiser_step.loss_sum.zero_()
            self.terms_seen = 0
            if self.recipe.patience.amount:  # what the next step does must not hang on how fast a test is
                self._report_epoch()
                self._stop_if_patience_is_over()
        self._measure_within_epoch()
        if self.finished or (self.finished_epoch is not None and self.finished_epoch.test_sums.ready()):
            self._report_epoch()
        self._call_step_callbacks()

    def _stop_if_patience_is_over(self) -> None:
        """End the training here, unless its network still changes; later rewinding points have its last weights."""
        if self.finished or not patience_is_over(self.reports, self.recipe, self.task) or self._has_changes_to_come():
            return
        self.stop = self.step
        with self._averaged():
            for step in sorted(self.job.step_callbacks):
                if step > self.step:
                    self.job.step_callbacks[step](self._state_dict())

    def _has_changes_to_come(self) -> bool:
        """Whether masks or weights will still be changed in this training, so that it must not end yet."""
        sparsifier = self.sparsifier
        later = range(self.step + 1, self.stop + 1)
        return sparsifier is not None and any(sparsifier.is_due(step) or sparsifier.replaces(step) for step in later)

    def _measure_within_epoch(self) -> None:
        every = self.job.measure_every
        if every and (self.step % every == 0 or self.finished):
            assert self.dataset.validation_set is not None
            with self._averaged():
                validation = self._evaluate(self.dataset.validation_set)
                self.loss_curve.measure(self.step, validation, lambda: self._evaluate(self.dataset.test_set))

    def _evaluate(self, samples: tuple[Tensor, Tensor], scores: Tensor | None = None) -> EvaluationResult:
        """The results of the network on a set of inputs and targets. Waits for the device."""
        sums = evaluation_sums(
            self.model, *samples, self.dataset.preprocess, _EVALUATION_BATCH, self.autocast, scores=scores,
            task=self.task, ranks=self.job.ranks,
        )  # fmt: skip
        return evaluation_from_sums(self.task, sums.tolist(), len(samples[1]))

    def _call_step_callbacks(self) -> None:
        if self.step in self.job.step_callbacks:
            self._report_epoch()  # raises if the training diverged: such weights are not handed out
            with self._averaged():
                self.job.step_callbacks[self.step](self._state_dict())

    def _averaged(self) -> AbstractContextManager[object]:
        """Within this context, the network has the averages of its weights, if the recipe averages them."""
        return nullcontext() if self.average is None else self.average.in_network()

    def keep_average(self) -> None:
        """Replace the weights by their averages after the last step, if the recipe averages them."""
        if self.average is not None:
            self.average.put_into_network()

    def _state_dict(self) -> StateDict:
        return {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}

    def _report_epoch(self) -> None:
        """Report the finished epoch, if it is not reported yet. Only here does a training wait for the device."""
        if self.finished_epoch is None:
            return
        finished_epoch, self.finished_epoch = self.finished_epoch, None
        epoch, lr = (finished_epoch.step - 1) // self.steps_per_epoch, self.learning_rates[finished_epoch.step - 1]
        loss_sum, *sums = finished_epoch.test_sums.wait()
        train_loss = loss_sum / finished_epoch.seen
        if not math.isfinite(train_loss):
            raise TickdslError(
                f"the training diverged: the loss is {train_loss} in epoch {epoch + 1} (lr {lr:g})",
                "lower lr, add a warmup, or use precision=fp32"
                + ("" if self.recipe.loss is None else f"; or look at loss={self.recipe.loss}"),
            )
        result = evaluation_from_sums(self.task, sums, len(self.dataset.watched_set[1]))
        is_test = self.dataset.validation_set is None
        report = EpochReport(
            epoch=epoch + 1,
            epochs=math.ceil(self.stop / self.steps_per_epoch),
            step=finished_epoch.step,
            train_loss=train_loss,
            test_loss=result.loss if is_test else None,
            test_accuracy=result.figures.get("accuracy") if is_test else None,
            lr=lr,
            seconds=self.job.usage.end_lap(),
            figures=dict(result.figures) if is_test else {},
            validation={} if is_test else dict(result.figures),
            penalty=None if self.sparsifier is None else self.sparsifier.penalty_at(finished_epoch.step - 1),
        )
        self.reports.append(report)
        if self.job.on_epoch is not None:
            self.job.on_epoch(report)

    def finish(self, stack_size: int = 1) -> TrainingHistory:
        """Convert the network back to the contiguous layout, and return the training's history.

        Raises MaskError if a pruned weight is not zero.
        """
        figures = self._final_figures()
        self.job.usage.pause()
        Masks(self.model, self.masks).check()
        set_memory_format(self.model, torch.contiguous_format)
        scores = None if self.scores is None else self.scores.cpu()
        return TrainingHistory(
            self.start, self.stop, self.steps_per_epoch, tuple(self.reports),
            self.sparse_layers.names, self.layout, self.compile, stack_size, scores,
            masks=self._final_masks(), changes=() if self.sparsifier is None else tuple(self.sparsifier.changes),
            left=() if self.sparsifier is None else tuple(self.sparsifier.left),
            figures=figures, loss_curve=tuple(map(tuple, self.loss_curve.rows)), wait_seconds=self.wait_seconds,
            data_bytes=self.dataset.nbytes,
        )  # fmt: skip

    def _final_figures(self) -> Mapping[str, float]:
        """The figures on the test set at the end: those of the last epoch, unless that was measured on validation."""
        if self.dataset.validation_set is None:
            return self.reports[-1].watched if self.reports else {}
        with self.device_context():
            return self._evaluate(self.dataset.test_set, self.scores).figures

    def _final_masks(self) -> dict[str, Tensor] | None:
        """The masks at the end, on the CPU, if they changed in the training."""
        if self.job.sparsifier is None or not self.job.sparsifier.changes_masks:
            return None
        return {name: mask.cpu().contiguous() for name, mask in self.masks.items()}

    def capture(self) -> dict[str, Any]:
        """Everything that the remaining steps depend on, as tensors, numbers and strings."""
        sparsified = {}
        if self.sparsifier is not None:
            sparsified = {"sparsifier": self.sparsifier.state_dict(), "masks": self.sparsifier.network.masks.current()}
        return {
            **sparsified,
            **({} if self.average is None else {"average": self.average.state_dict()}),
            "step": self.step,
            "sparse": list(self.sparse_layers.names),
            "layout": self.layout,
            "compile": self.compile,
            "model": self.model.state_dict(),
            "optimizer": self.optimiser_step.state_dict(),
            "loss_sum": self.optimiser_step.loss_sum,
            "seen": self.terms_seen,
            "usage": self.job.usage.state_dict(),
            "reports": [attrs.asdict(report) for report in self.reports],
            "loss_curve": self.loss_curve.rows,
            "wait_seconds": self.wait_seconds,
            "ended": None if self.finished_epoch is None else self.finished_epoch.to_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `capture` returned."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimiser_step.load_state_dict(state["optimizer"])
        self.optimiser_step.loss_sum.copy_(state["loss_sum"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.sparsifier is not None:
            self.sparsifier.network.masks.replace({name: mask.to(self.device) for name, mask in state["masks"].items()})
            self.sparsifier.load_state_dict(state["sparsifier"])
            if self.job.sparsifier is not None and self.job.sparsifier.changes_masks:
                self.masks = self.sparsifier.network.masks.current()
        self.terms_seen = state["seen"]
        if "usage" in state:  # not in checkpoints of earlier versions
            self.job.usage.load_state_dict(state["usage"])
        self.reports = [EpochReport(**report) for report in state["reports"]]
        self.loss_curve = LossCurve([list(row) for row in state.get("loss_curve", ())])
        self.wait_seconds = state.get("wait_seconds", 0.0)
        finished_epoch = state.get("ended")
        self.finished_epoch = None if finished_epoch is None else FinishedEpoch.from_state(**finished_epoch)
