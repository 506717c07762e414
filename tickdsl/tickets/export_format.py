"""What a format of `tickdsl export` is: it writes a ticket to a file, and verifies the file in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor, nn

from tickdsl.tickets.preprocessing import Preprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.rng import generator
from tickdsl.training.tasks import CLASSIFY, Task

#: How many random images stand in for a test set that is not at hand.
_NUM_RANDOM_IMAGES = 64


@attrs.frozen(eq=False)
class TestImages:
    """Images uint8 [N, C, H, W], and their targets, for classifiers int64 [N]; None for random images.

    why_random: why the test set is not at hand, as a clause. task: what the targets are for.
    """

    __test__ = False
    images: Tensor
    labels: Tensor | None = None
    why_random: str = ""
    task: Task = CLASSIFY

    @classmethod
    def random(cls, preprocessing: Preprocessing, why: str = "") -> TestImages:
        """Random images, the same each time."""
        shape = (_NUM_RANDOM_IMAGES, *preprocessing.shape)
        images = torch.randint(0, 256, shape, generator=generator(0, "verification"), dtype=torch.uint8)
        return cls(images, why_random=why)


@attrs.frozen(kw_only=True)
class TestConditions:
    """How the stored accuracy of a network was measured, as far as it is known.

    device, threads, layout (a name in `memory_layouts.LAYOUTS`) and precision are those of the test. differences: what
    else about it cannot be repeated here, as clauses, so that a few images may be classified differently.
    """

    __test__ = False
    device: str = "cpu"
    threads: int = 1
    layout: str = "contiguous"
    precision: str = "fp32"
    differences: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """What is exported: a ticket, with its network as it is in the store, the test images and their conditions."""

    ticket: Ticket
    network: nn.Module
    test: TestImages
    conditions: TestConditions = attrs.field(factory=TestConditions)
    allow_code: bool = False


@attrs.frozen
class ExportOptions:
    """raw: leave the normalisation out of the network. sparse: store masked weights compressed. int8: quantise them."""

    raw: bool = False
    sparse: bool = False
    int8: bool = False


@attrs.frozen
class Verified:
    """A file that was verified: its accuracy on the test set (None: random images), and a sentence that says how."""

    accuracy: float | None
    sentence: str


@attrs.frozen
class ExportFormat:
    """A format.

    suffix: of its files; empty for a folder. options: the names of the ExportOptions that it takes.

    write: writes a subject to a path where nothing is, and returns sentences for the user. verify: loads the file in a
    fresh process, compares it with the subject, and raises VerificationError if they differ. Both raise TickdslError if
    they cannot.
    """

    name: str
    suffix: str
    options: frozenset[str]
    write: Callable[[Subject, Path, ExportOptions], tuple[str, ...]]
    verify: Callable[[Path, Subject, ExportOptions], Verified]
