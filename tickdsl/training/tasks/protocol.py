"""The interface of tasks: how outputs and targets become a loss, and which figures a test has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from tickdsl.errors import TickdslError
from tickdsl.training.catalogue.tasks import UNLABELLED as UNLABELLED
from tickdsl.training.catalogue.tasks import TaskMetric as TaskMetric
from tickdsl.training.tasks.phases import Phase

#: What a network returns: a tensor [B, …], or a tuple, a named one too, or a dictionary of such tensors.
Outputs = Any
#: The mean loss, a scalar, of a batch's outputs [B, …] and targets [B, …].
Loss = Callable[[Outputs, Tensor], Tensor]


def average_log_probabilities(outputs: Sequence[Tensor], dim: int) -> Tensor:
    """The logarithm of the mean of the probabilities that logits stand for; classes lie along `dim`."""
    return torch.stack([F.log_softmax(logits, dim) for logits in outputs]).logsumexp(0) - math.log(len(outputs))


def as_float32(outputs: Outputs) -> Outputs:
    """Outputs with every tensor in them as float32."""
    return outputs.float() if isinstance(outputs, Tensor) else tree_map_only(Tensor, Tensor.float, outputs)


class BadTargets(Exception):
    """Raised if the targets of a data set do not fit the task: `problem` continues "train_targets …"."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.problem, self.hint = problem, hint


class Task:
    """How a batch becomes a loss, and how an evaluation becomes figures.

    A subclass has `metrics`, the first of which is the primary one, and overrides `loss`, `sums`, `figures` and
    `as_targets`; everything else follows from these, or can be overridden to be faster. Methods that run on the device
    must not wait for it.
    """

    #: Its name in steps' arguments; a plug-in gets the name under which it is registered.
    name: str = ""
    metrics: tuple[TaskMetric, ...] = ()
    #: Whether targets are classes, and outputs their logits.
    has_classes: bool = False
    #: Whether outputs are logits, which a temperature divides; those of classifiers always are.
    has_logits: bool = False
    #: Whether the loss of a training takes the probabilities of classes, float [B, classes], instead of targets too.
    takes_probabilities: bool = False
    #: The type of a sample's score; None if samples have no score of their own.
    score_dtype: torch.dtype | None = None
    #: Whether the targets are the inputs themselves, as they are stored (uint8 images), so that any data set will do.
    learns_from_inputs: bool = False
    #: Whether networks draw random numbers in a test too, from torch's generators; each test then draws the same ones.
    draws_in_tests: bool = False
    #: Whether targets are masks [B, H, W], one value per pixel: augmentation moves them with their images (nearest
    #: neighbour, `UNLABELLED` outside), and the options of `data` resize them with their images.
    spatial_targets: bool = False
    #: Whether `sums` needs the outputs for a whole test set at once, for figures that are no sums over its samples.
    #: They are kept on the device, at most `evaluation.MAX_KEPT_BYTES` of them.
    keeps_outputs: bool = False
    #: The mean and the deviation of pixel values in [0, 1] that images are normalised by; None: those of the data.
    pixel_statistics: tuple[float, float] | None = None

    @property
    def primary(self) -> TaskMetric:
        """The metric that networks are compared by."""
        return self.metrics[0]

    # -- targets

    def as_targets(self, targets: NDArray[Any], names: Sequence[str]) -> NDArray[Any]:
        """The targets of a data set as they are trained on: [N, …], of the type and the shape that the loss needs.

        names: those of the outputs, as the data set gives them. Raises BadTargets if they do not fit.
        """
        raise NotImplementedError

    def output_names(self, targets: NDArray[Any], names: Sequence[str]) -> tuple[str, ...]:
        """The names of a network's outputs, one for each of them; `targets` are those that `as_targets` returned."""
        return tuple(names)

    def chance(self, targets: Tensor) -> float | None:
        """The primary metric of the best answer that ignores the input; None if there is no such thing."""
        return None

    # -- training

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, a scalar. Criteria use it too."""
        raise NotImplementedError

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is trained in turn within a step, each with an optimiser of its own; empty for all by `loss` at once.

        A criterion then scores the weights of a part by the loss of the phase that trains it.
        """
        return ()

    def weight(self, targets: Tensor) -> int:
        """The number of terms whose mean `loss` is; it follows from shapes, so that nothing waits for the device."""
        return len(targets)

    def counted(self, targets: Tensor) -> Tensor | int:
        """The number of terms that `loss` averages: `weight` without those that are left out, which the device knows.

        A loss of several micro-batches is their mean, weighted with it.
        """
        return self.weight(targets)

    def bind(self, *, label_smoothing: float = 0.0) -> Loss:
        """The loss of a training by its recipe, bound once before the first step.

        Raises TickdslError if the recipe does not fit the task.
        """
        if label_smoothing:
            raise TickdslError(
                f"label-smoothing={label_smoothing:g}: the loss of the task `{self.name}` has none",
                "leave out `label-smoothing`",
            )
        return self.loss

    def bind_stacked(self, *, label_smoothing: float = 0.0) -> Loss:
        """Like `bind`, for K stacked networks: outputs and targets are [B, K, …], the losses [K]."""
        loss = self.bind(label_smoothing=label_smoothing)

        def losses(outputs: Tensor, targets: Tensor) -> Tensor:
            return torch.stack([loss(*one) for one in zip(outputs.unbind(1), targets.unbind(1), strict=True)])

        return losses

    # -- evaluation

    def evaluation_batch(self, inputs: Tensor, most: int) -> int:
        """The number of inputs [N, …] that networks evaluate at once: at most `most`, fewer if outputs are large."""
        return most

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums of a batch, float64 [m], on its device; those of an evaluation set are added up.

        With `keeps_outputs`, the batch is the whole evaluation set, whatever batches the network ran on.
        """
        raise NotImplementedError

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """A score for each sample of a batch, [B] of `score_dtype`; None if samples have no score of their own."""
        return None

    def sums_stacked(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sums [m, K] of K stacked networks, with outputs [B, K, …] for targets [B, …]."""
        return torch.stack([self.sums(one, targets) for one in outputs.unbind(1)], 1)

    def scores_stacked(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """The scores [B, K] of K stacked networks."""
        scores = [scores for one in outputs.unbind(1) if (scores := self.scores(one, targets)) is not None]
        return torch.stack(scores, 1) if scores else None

    def figures(self, sums: Sequence[float], count: int) -> Mapping[str, float]:
        """The figures of an evaluation by name: the metrics, and the mean `loss`. count: the number of samples."""
        raise NotImplementedError

    def average(self, outputs: Sequence[Outputs]) -> Outputs:
        """The outputs [B, …] of an ensemble, of those of its networks: probabilities or predictions, averaged.

        Tasks without it have no ensembles.
        """
        raise NotImplementedError

    def pictures(self, outputs: Outputs, targets: Tensor) -> Tensor | None:
        """Pictures of what a network makes of a few test images, uint8 [N, C, H, W], eight in a row; None if none."""
        return None

    # -- distillation

    def soften(self, outputs: Tensor, temperature: float) -> Tensor:
        """What a student learns from a teacher's outputs."""
        return outputs.float()

    def distil(self, outputs: Tensor, softened: Tensor, temperature: float, weight: float) -> Tensor:
        """`weight` times the distance of a student's outputs from what `soften` made of the teacher's, a scalar.

        Outputs that are no logits have no temperature: it changes nothing.
        """
        return weight * F.mse_loss(outputs.float(), softened)
