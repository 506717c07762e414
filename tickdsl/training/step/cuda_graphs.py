"""Recording work on a GPU as a CUDA graph, to be launched as one unit instead of hundreds of kernels.

**Not run on a GPU yet**: the tests run the logic on a CPU.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Protocol

import torch

from tickdsl.gc_control import gc_disabled


class GraphRecorder(Protocol):
    """Records work on a device."""

    def warm_up(self, work: Callable[[], None]) -> None:
        """Run `work` in the way in which it will be recorded."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record `work` without running it; return a function that runs it on the same tensors.

        Raises RuntimeError if it cannot be recorded.
        """


@functools.cache
def _capture_stream() -> torch.cuda.Stream:
    """This process's stream for recording; only one, since each stream keeps memory of its own."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class CudaGraphRecorder:
    """Records CUDA graphs on the current device. optimizer: the one that the recorded work steps."""

    _capture_broken = False  # for the whole process

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def warm_up(self, work: Callable[[], None]) -> None:
        stream = _capture_stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if CudaGraphRecorder._capture_broken:
            raise RuntimeError("an earlier recording in this process was interrupted")
        graph = torch.cuda.CUDAGraph()
        # Adam refuses to be recorded without this flag, and warns about it at other times.
        groups = self._optimizer.param_groups  # others than before, if the optimiser has loaded a state since
        capturable_flags = [group.get("capturable") for group in groups]
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # a recording needs memory of its own
        try:
            for group in groups:
                group["capturable"] = True
            # Freeing another graph during a recording would interrupt it.
            with gc_disabled(), torch.cuda.stream(_capture_stream()):
                self._capture(graph, work)
        finally:
            for group, flag in zip(groups, capturable_flags, strict=True):
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
                # A synchronisation interrupts a recording. torch then keeps allocating from the recording's pool, and
                # no further recording can start, so end the pool and give up recording in this process.
                CudaGraphRecorder._capture_broken = True
                device = torch.cuda.current_device()
                with contextlib.suppress(RuntimeError):
                    torch._C._cuda_endAllocateToPool(device, pool)
                    torch._C._cuda_releasePool(device, pool)
                raise
