"""What a process that runs steps sets once, and how the errors of a step are told."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tickdsl.engine.machine.job_limits import gpu_memory_share
from tickdsl.engine.steps.settings import Settings
from tickdsl.errors import TickdslError, is_out_of_memory
from tickdsl.plugins import allow_code
from tickdsl.records.files import disk_error
from tickdsl.training.devices import limit_memory, use_threads


def set_up_process(settings: Settings) -> None:
    """Set this process's threads, GPU and share of its memory, and whether plans may run code."""
    use_threads(settings.threads)
    device = torch.device(settings.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what names no GPU means this one
    share = gpu_memory_share(settings.jobs)
    if share is not None:
        limit_memory(device, share)
    if settings.allow_code:
        allow_code()


def failure_of(error: Exception, more_hint: str = "") -> tuple[str, str | None]:
    """The message and the hint for an error of a step. more_hint: what else helps if memory is short."""
    if isinstance(error, TickdslError):
        return error.message, error.hint
    if is_out_of_memory(error):
        first_line = (str(error).splitlines() or [""])[0]
        return f"out of memory: {first_line}".rstrip(": "), f"use a smaller batch or fewer --jobs{more_hint}"
    if isinstance(error, OSError) and error.filename is not None:
        told = disk_error(error, Path(os.fsdecode(error.filename)), "read")
        return told.message, told.hint
    return f"{type(error).__name__}: {error}", None
