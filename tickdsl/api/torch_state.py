"""The state of torch in the caller's process: what tickdsl does is independent of it, and does not change it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def neutral_torch() -> Iterator[None]:
    """Within this block, torch is as in a new process, except for its random state; afterwards, it is as it was before.

    That is: its random state and threads, default dtype and device, and the modes `no_grad` and `inference_mode`. Does
    nothing if torch is not loaded.
    """
    if "torch" not in sys.modules:
        yield
        return
    import torch

    threads, dtype, device = torch.get_num_threads(), torch.get_default_dtype(), torch.get_default_device()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(torch.float32)
        if device.type != "cpu":
            torch.set_default_device(None)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_default_dtype(dtype)
            if device.type != "cpu":
                torch.set_default_device(device)
