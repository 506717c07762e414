"""How long a network takes to classify a picture by itself, and a batch of them.

On a CPU one thread works, and what counts is the time that it computes: on a machine with other work that is what the
wall clock would say of a core of its own. On CUDA the wall clock is read once the device has finished.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LATENCY = "latency"
#: Calls before the first that counts: memory is fetched, and algorithms are chosen.
_WARM_UP = 3
#: A round lasts at least so many seconds, many times what a clock can tell apart; all rounds together so many.
_MIN_ROUND_SECONDS, _MIN_TOTAL_SECONDS = 0.01, 0.5
_MIN_ROUNDS = 5


def measure_latency(
    model: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    autocast: torch.dtype | None = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Seconds by name: `latency` for the first of `images` [N, C, H, W] alone, `latency.batch` for all N at once,
    which `latency.batch.size` counts.

    Each is the median of rounds, `….spread` the distance between the quartiles. `model` is left in eval mode on
    `device`. `between` is called between rounds.
    """
    model.to(device).eval()
    images = images.to(device)
    figures: dict[str, float] = {}
    with _single_thread(device), torch.inference_mode():
        for name, batch in ((LATENCY, images[:1].clone()), (f"{LATENCY}.batch", images)):

            def classify(batch: Tensor = batch) -> None:
                with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                    model(batch)

            rounds = _time_rounds(classify, _clock(device), between)
            first, median, third = statistics.quantiles(rounds, n=4, method="inclusive")
            figures |= {name: median, f"{name}.spread": third - first}
    return {**figures, f"{LATENCY}.batch.size": len(images)}


def _time_rounds(call: Callable[[], None], clock: Callable[[], float], between: Callable[[], None]) -> list[float]:
    """Seconds a call, round by round."""
    for _ in range(_WARM_UP):
        call()
    between()
    calls = max(1, math.ceil(_MIN_ROUND_SECONDS / max(_seconds_per_call(call, 1, clock), 1e-6)))
    seconds: list[float] = []
    while len(seconds) < _MIN_ROUNDS or sum(seconds) * calls < _MIN_TOTAL_SECONDS:
        between()
        seconds.append(_seconds_per_call(call, calls, clock))
    return seconds


def _seconds_per_call(call: Callable[[], None], times: int, clock: Callable[[], float]) -> float:
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
    """One thread on a CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
