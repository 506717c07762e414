"""A training step as a CUDA graph: recorded once, then launched as one thing instead of hundreds.

Small networks leave a GPU idle while Python launches their kernels; a graph has them all. What a step reads must lie
where it lay when it was recorded: batches are copied into tensors that stay, the rate is a tensor on the device, and
dropout's generator is known to the graph and seeded before every step.

**This has not run on a GPU yet**: its tests run the logic on a CPU. So a recorded step is used only after it has been
compared with the step it was recorded from; where they differ, or recording fails, steps go on uncaptured.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tickdsl.gc_control import gc_disabled
from tickdsl.training.recipes.recipe import Recipe

#: Full batches that are trained on uncaptured first: libraries choose algorithms, the optimiser makes its state.
WARM_UP_STEPS = 3
#: How far a recorded step may lie from the other, as a share of what the step changes, for most tensors: kernels that
#: sum in any order lie closer, a step that reads a stale batch or draws other units to drop does not.
_TOLERANCE = 0.05

StepFunction = Callable[..., None]


class GraphRecorder(Protocol):
    """What records work on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do `work` as it would be recorded."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What does `work` again, on the same tensors; it is not done yet. RuntimeError where it cannot be recorded."""


@functools.cache
def _capture_stream() -> torch.cuda.Stream:
    """The one stream of this process that work is recorded on: each has memory of its own, which it keeps."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class CudaGraphRecorder:
    """Records on the current CUDA device; `optimizer` takes part in what is recorded."""

    _capture_broken = False  # in this process

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._groups = optimizer.param_groups

    def warm_up(self, work: Callable[[], None]) -> None:
        stream = _capture_stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if CudaGraphRecorder._capture_broken:
            raise RuntimeError("a recording of this process was torn before")
        graph = torch.cuda.CUDAGraph()
        # Adam refuses to be recorded without this word, and warns of it at all other times.
        capturable_flags = [group.get("capturable") for group in self._groups]
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # a recording has memory of its own
        try:
            for group in self._groups:
                group["capturable"] = True
            # To free another recording in the middle of this one would tear it.
            with gc_disabled(), torch.cuda.stream(_capture_stream()):
                self._capture(graph, work)
        finally:
            for group, flag in zip(self._groups, capturable_flags, strict=True):
                group["capturable"] = flag
        replay: Callable[[], None] = graph.replay
        return replay

    @staticmethod
    def _capture(graph: torch.cuda.CUDAGraph, work: Callable[[], None]) -> None:
        pool = torch.cuda.graph_pool_handle()
        graph.capture_begin(pool=pool)
        try:
            work()
        finally:
            try:
                graph.capture_end()
            except RuntimeError:
                # Whatever waits for the device tears a recording. torch then still takes all memory to be the
                # recording's, and no other can be begun as if nothing had happened.
                CudaGraphRecorder._capture_broken = True
                device = torch.cuda.current_device()
                with contextlib.suppress(RuntimeError):
                    torch._C._cuda_endAllocateToPool(device, pool)
                    torch._C._cuda_releasePool(device, pool)
                raise


def should_capture(device: torch.device, recipe: Recipe) -> bool:
    """Whether steps are captured: on CUDA, unless the momentum changes, which a recording would not see."""
    return device.type == "cuda" and recipe.schedule != "one-cycle"


class CapturedStep:
    """`step(*inputs)`, replayed from a recording where the inputs have the shapes of a full batch.

    step changes the tensors that `mutated` gives, and nothing else; it reads its inputs, tensors that stay, and
    generators that `reseed` sets back to where they were before this step. batch: the pictures of a full batch.
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
        self._recorded_steps: dict[int, _RecordedStep] = {}  # by how many inputs there are: a teacher's answers may end
        self.disabled = False

    def __call__(self, *inputs: Tensor) -> None:
        if self.disabled or len(inputs[0]) != self._batch:
            self._step(*inputs)
        elif self._warm_up_steps < WARM_UP_STEPS:
            self._warm_up_steps += 1
            self._recorder.warm_up(lambda: self._step(*inputs))
        elif len(inputs) in self._recorded_steps:
            self._recorded_steps[len(inputs)].replay(inputs)
        else:
            self._record(inputs)

    def _record(self, inputs: Sequence[Tensor]) -> None:
        """Take this step uncaptured; keep a recording that does the same."""
        recording, reason = None, ""
        try:
            recording = _RecordedStep(self._step, inputs, self._recorder)
        except RuntimeError as error:
            reason = str(error.__context__ or error)  # a torn recording says less than what tore it
        if recording is None:  # not while the error is at hand: it holds what the recording computed
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
            self._recorded_steps[len(inputs)] = recording
        else:
            self._disable("does something else when it is replayed")

    def _disable(self, reason: str) -> None:
        self.disabled = True
        warnings.warn(f"a training step {reason}: it runs uncaptured, and slower", stacklevel=2)


class _RecordedStep:
    """A step recorded on inputs of its own."""

    def __init__(self, step: StepFunction, inputs: Sequence[Tensor], recorder: GraphRecorder) -> None:
        static_inputs = self._static_inputs = _clones(inputs)
        self._replay = recorder.record(lambda: step(*static_inputs))

    def replay(self, inputs: Sequence[Tensor]) -> None:
        for static_inputs, value in zip(self._static_inputs, inputs, strict=True):
            static_inputs.copy_(value)
        self._replay()


def _clones(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in inputs]


def _steps_match(before: Sequence[Tensor], stepped: Sequence[Tensor], replayed: Sequence[Tensor]) -> bool:
    """Whether two ways of one step changed the floating-point tensors alike, by the median. Waits for the device."""
    relative_errors = [
        float((one.double() - other.double()).norm() / (one.double() - old.double()).norm())
        for old, one, other in zip(before, stepped, replayed, strict=True)
        if old.is_floating_point() and not torch.equal(one, old)
    ]
    return bool(relative_errors) and statistics.median(relative_errors) <= _TOLERANCE
