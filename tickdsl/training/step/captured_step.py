"""A training step that is recorded once as a CUDA graph and then replayed.

Small networks leave a GPU idle while Python launches their kernels; a graph launches all of them at once. A replay
reads the tensors that the recorded step read: batches are copied into static tensors, the learning rate is a tensor on
the device, and dropout's generator is registered with the graph and seeded before every step.

**Not run on a GPU yet**: the tests run the logic on a CPU. So a recording is used only after its replay matches the
step that it was recorded from; if they differ, or recording fails, steps run uncaptured.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from tickdsl.training.recipes.recipe import Recipe
from tickdsl.training.step.cuda_graphs import GraphRecorder

#: Full batches to train on before recording: libraries choose algorithms, and the optimiser creates its state.
WARM_UP_STEPS = 3
#: Largest relative difference between the changes of a replayed and of the original step, for most tensors: larger than
#: that of kernels that sum in any order, and smaller than that of a stale batch or of another dropout mask.
_TOLERANCE = 0.05

StepFunction = Callable[..., None]


def should_capture(device: torch.device, recipe: Recipe) -> bool:
    """Whether to capture steps: on CUDA, unless the momentum changes, since a recording contains it as a constant.

    Those of an optimiser of one's own are not captured either: it may compute with numbers.
    """
    return device.type == "cuda" and recipe.schedule != "one-cycle" and not recipe.has_own_optimiser


class CapturedStep:
    """Runs `step(*inputs)`, replayed from a recording if the inputs are a full batch.

    step: changes only the tensors that `mutated` returns; reads only its inputs, tensors that stay in place, and
    generators that `reseed` sets back to their state before the step.
    batch: the number of images of a full batch.
    """

    def __init__(
        self,
        step: StepFunction,
        *,
        batch: int,
        mutated: Callable[[], Iterable[Tensor]],
        reseed: Callable[[], None],
        recorder: GraphRecorder,
    ) -> None:
        self._step, self._batch = step, batch
        self._mutated, self._reseed, self._recorder = mutated, reseed, recorder
        self._warm_up_steps = 0
        # By the shapes of inputs: soft targets are missing once distillation has ended, and images can grow.
        self._recorded_steps: dict[tuple[torch.Size, ...], _RecordedStep] = {}
        self.disabled = False

    def __call__(self, *inputs: Tensor) -> None:
        if self.disabled or len(inputs[0]) != self._batch:
            self._step(*inputs)
        elif self._warm_up_steps < WARM_UP_STEPS:
            self._warm_up_steps += 1
            self._recorder.warm_up(lambda: self._step(*inputs))
        elif _shapes(inputs) in self._recorded_steps:
            self._recorded_steps[_shapes(inputs)].replay(inputs)
        else:
            self._record(inputs)

    def forget(self) -> None:
        """Drop the recordings, since the step's tensors were replaced; the step is recorded again when it comes."""
        self._recorded_steps.clear()

    def _record(self, inputs: Sequence[Tensor]) -> None:
        """Take this step uncaptured, and record it; keep the recording if its replay matches."""
        recording, reason = None, ""
        try:
            recording = _RecordedStep(self._step, inputs, self._recorder)
        except RuntimeError as error:
            reason = str(error.__context__ or error)  # of an interrupted recording, the cause says more
        if recording is None:  # outside `except`, since the error keeps the recording's tensors alive
            self._disable(f"cannot be recorded ({reason})")
            self._reseed()
            self._step(*inputs)
            return
        tensors = list(self._mutated())
        before = [tensor.clone() for tensor in tensors]
        self._reseed()
        recording.replay(inputs)
        replayed = [tensor.clone() for tensor in tensors]
        for tensor, value in zip(tensors, before, strict=True):
            tensor.copy_(value)
        self._reseed()
        self._step(*inputs)
        if _steps_match(before, tensors, replayed):
            self._recorded_steps[_shapes(inputs)] = recording
        else:
            self._disable("gives different results when replayed")

    def _disable(self, reason: str) -> None:
        self.disabled = True
        warnings.warn(f"a training step {reason}, so steps run without a CUDA graph, and more slowly", stacklevel=2)


class _RecordedStep:
    """A step recorded on static inputs."""

    def __init__(self, step: StepFunction, inputs: Sequence[Tensor], recorder: GraphRecorder) -> None:
        static_inputs = self._static_inputs = _clones(inputs)
        self._replay = recorder.record(lambda: step(*static_inputs))

    def replay(self, inputs: Sequence[Tensor]) -> None:
        for static_input, value in zip(self._static_inputs, inputs, strict=True):
            static_input.copy_(value)
        self._replay()


def _shapes(inputs: Sequence[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape for tensor in inputs)


def _clones(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in inputs]


def _steps_match(before: Sequence[Tensor], stepped: Sequence[Tensor], replayed: Sequence[Tensor]) -> bool:
    """Whether a step and its replay changed the floating-point tensors alike, by the median relative error.

    Waits for the device.
    """
    relative_errors = [
        float((after.double() - after_replay.double()).norm() / (after.double() - old.double()).norm())
        for old, after, after_replay in zip(before, stepped, replayed, strict=True)
        if old.is_floating_point() and not torch.equal(after, old)
    ]
    return bool(relative_errors) and statistics.median(relative_errors) <= _TOLERANCE
