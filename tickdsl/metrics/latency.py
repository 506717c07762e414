"""Inference latency, for a single image and for a batch.

On a CPU, one thread runs, and its CPU time counts: on a busy machine, that is the wall-clock time on a core of its own.
On CUDA, the wall clock is read after synchronising the device.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tickdsl.training.named_tensors import run_network

LATENCY = "latency"
#: Untimed calls at the start, in which memory is allocated and algorithms are chosen.
_WARM_UP = 3
#: The minimum duration of a round, far above the clock's resolution, and of all rounds together.
_MIN_ROUND_SECONDS, _MIN_TOTAL_SECONDS = 0.01, 0.5
_MIN_ROUNDS = 5
#: The duration of a round where many calls are timed.
_SHORT_ROUND_SECONDS = 0.002


def measure_latency(
    model: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Measure the latency of a forward pass, in seconds.

    `latency` is for the first of `images` [N, C, H, W] alone, `latency.batch` for all N, and `latency.batch.size` is N.
    Latencies are medians over rounds; `latency.spread` and `latency.batch.spread` are the interquartile ranges. `model`
    is left in eval mode on `device`. `between` is called between rounds.
    """
    model.to(device).eval()
    images = images.to(device)
    figures: dict[str, float] = {}
    with _single_thread(device), torch.inference_mode():
        for name, batch in ((LATENCY, images[:1].clone()), (f"{LATENCY}.batch", images)):

            def classify(batch: Tensor = batch) -> None:
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    run_network(model, batch)

            rounds = _time_rounds(classify, _clock(device), between)
            first, median, third = statistics.quantiles(rounds, n=4, method="inclusive")
            figures |= {name: median, f"{name}.spread": third - first}
    return {**figures, f"{LATENCY}.batch.size": len(images)}


def time_call(call: Callable[[], object], device: torch.device, between: Callable[[], None] = lambda: None) -> float:
    """The seconds that a call takes, as a median of short rounds; for tables of many small layers.

    Timed like `measure_latency`, in a tenth of the time: rounds of 2 ms, at least five. `between` is called between
    rounds.
    """
    clock = _clock(device)
    with _single_thread(device), torch.inference_mode():
        for _ in range(_WARM_UP):
            call()
        calls = max(1, math.ceil(_SHORT_ROUND_SECONDS / max(_seconds_per_call(call, 1, clock), 1e-6)))
        rounds = []
        for _ in range(_MIN_ROUNDS):
            between()
            rounds.append(_seconds_per_call(call, calls, clock))
    return statistics.median(rounds)


def _time_rounds(call: Callable[[], None], clock: Callable[[], float], between: Callable[[], None]) -> list[float]:
    """The seconds per call of each round."""
    for _ in range(_WARM_UP):
        call()
    between()
    calls = max(1, math.ceil(_MIN_ROUND_SECONDS / max(_seconds_per_call(call, 1, clock), 1e-6)))
    seconds: list[float] = []
    while len(seconds) < _MIN_ROUNDS or sum(seconds) * calls < _MIN_TOTAL_SECONDS:
        between()
        seconds.append(_seconds_per_call(call, calls, clock))
    return seconds


def _seconds_per_call(call: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(times):
        call()
    return (clock() - started) / times


def _clock(device: torch.device) -> Callable[[], float]:
    if device.type != "cuda":
        return time.thread_time

    def synchronized_time() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return synchronized_time


@contextmanager
def _single_thread(device: torch.device) -> Iterator[None]:
    """Use one thread within the context, if the device is a CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
