"""A small plan for each built-in task, for the tests that hold for all of them: append one with every new task."""

from __future__ import annotations

import attrs


@attrs.frozen
class TaskCase:
    """A plan without arms that runs in seconds on a CPU.

    head: its `model`, `data` and `train` lines. units: what of its network can be pruned. refuses: what a plan of the
    task cannot do, which must be refused with a reason: criteria by name, `distill`, `stack`, `export`, `pt2`.
    """

    task: str
    head: str
    units: tuple[str, ...] = ("weights", "filters")
    refuses: tuple[str, ...] = ()

    @property
    def plan(self) -> str:
        """A plan with one prune of its first unit."""
        return f"plan 1\n{self.head}\nseeds 1\nprune {self.units[0]} global 30% x 2\nrewind weights to init\n"


TASK_CASES = (TaskCase("classify", "model small-cnn width=0.5\ndata digits samples=200\ntrain 3ep batch=50 lr=0.05"),)
