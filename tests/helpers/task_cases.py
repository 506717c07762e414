"""A small plan for each built-in task, for the tests that hold for all of them: append one with every new task."""

from __future__ import annotations

import attrs


@attrs.frozen
class TaskCase:
    """A plan without arms that runs in seconds on a CPU.

    head: its `model`, `data` and `train` lines. units: what of its network can be pruned. refuses: what a plan of the
    task cannot do, which must be refused with a reason: criteria by name, `distill`, `stack`.
    """

    task: str
    head: str
    units: tuple[str, ...] = ("weights", "filters")
    refuses: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The task, with the network and the data."""
        lines = self.head.splitlines()
        return f"{self.task}: {' on '.join(line.split()[1] for line in lines[:2])}"

    @property
    def plan(self) -> str:
        """A plan with one prune of its first unit."""
        return f"plan 1\n{self.head}\nseeds 1\nprune {self.units[0]} global 30% x 2\nrewind weights to init\n"


TASK_CASES = (
    TaskCase("classify", "model small-cnn width=0.5\ndata digits samples=200\ntrain 3ep batch=50 lr=0.05"),
    TaskCase(
        "language",
        "model gpt layers=1 heads=2 dim=16\ndata corpus length=16 train=160 test=40\n"
        "train 3ep opt=adam lr=0.01 batch=32",
        ("weights", "neurons", "layers"),
    ),
    # The same task as that of the first, on tokens.
    TaskCase(
        "classify",
        "model bert layers=1 heads=2 dim=16\ndata sentences train=160 test=40\ntrain 3ep opt=adam lr=0.01 batch=32",
        ("weights", "neurons", "layers"),
    ),
    TaskCase(
        "tag",
        "model small-cnn width=0.5\ndata shapes-tags size=16 channels=1 train=120 test=40\ntrain 3ep batch=30 lr=0.05",
    ),
    TaskCase(
        "regress",
        "model small-cnn width=0.5\ndata shapes-places size=16 channels=1 train=120 test=40\n"
        "train 3ep batch=30 lr=0.05",
    ),
    TaskCase(
        "segment",
        "model unet width=0.25 depth=1\ndata shapes size=16 channels=1 train=120 test=40\ntrain 3ep batch=30 lr=0.05",
    ),
    TaskCase(
        "reconstruct",
        "model autoencoder width=0.25 latent=8\ndata digits samples=200\ntrain 3ep batch=50 opt=adam lr=0.003",
        ("weights", "neurons"),
    ),
    TaskCase(
        "vae",
        "model conv-vae width=0.25 latent=8\ndata digits samples=200\ntrain 3ep batch=50 opt=adam lr=0.003",
        refuses=("stack",),  # its networks draw random numbers
    ),
    TaskCase(
        "generate",
        "model dcgan width=0.25 latent=8\ndata digits samples=200\ntrain 3ep batch=50 opt=adam lr=0.003",
        refuses=("distill", "stack"),  # its parts are trained in turn
    ),
)
