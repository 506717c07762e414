"""Equal noise each time a step runs a network that draws random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tickdsl.engine.steps.context import Context
from tickdsl.plan.steps import Step
from tickdsl.training.loop import isolated_rng
from tickdsl.training.rng import stream_seed


@contextmanager
def fixed_noise(step: Step, context: Context, role: str) -> Iterator[None]:
    """Seed torch's generators by the step's seed and a role, if networks of its task draw numbers outside training."""
    if not context.dataset(step.args["data"], step.seed).task.draws_in_tests:
        yield
        return
    with isolated_rng(context.device):
        torch.manual_seed(stream_seed(step.seed or 0, role, "noise"))
        yield
