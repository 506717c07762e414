"""What a format of `tickdsl export` is: it writes a ticket to a file, and verifies the file in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor, nn

from tickdsl.tickets.preprocessing import InputPreprocessing
from tickdsl.tickets.ticket import Ticket
from tickdsl.training.tasks import Task, find_task

#: How many random inputs stand in for a test set that is not at hand.
_NUM_RANDOM = 64


@attrs.frozen(eq=False)
class TestInputs:
    """Inputs [N, …] as a data set stores them, such as images uint8 [N, C, H, W], and their targets [N, …].

    inputs: a tensor, or `NamedTensors`.

    targets: None for inputs whose outputs are compared, but not judged. why_random: why the test set is not at hand,
    as a clause. part_of: the size of the test set, if these are only the first ones of it.
    """

    __test__ = False
    inputs: Any
    targets: Tensor | None = None
    why_random: str = ""
    part_of: int | None = None

    @classmethod
    def random(cls, preprocessing: InputPreprocessing, why: str = "") -> TestInputs:
        """Random inputs, the same each time."""
        return cls(preprocessing.random(_NUM_RANDOM), why_random=why)


@attrs.frozen(kw_only=True)
class TestConditions:
    """How the stored figures of a network were measured, as far as it is known.

    device, threads, layout (a name in `memory_layouts.LAYOUTS`) and precision are those of the test. differences: what
    else about it cannot be repeated here, as clauses, so that outputs may differ a little.
    """

    __test__ = False
    device: str = "cpu"
    threads: int = 1
    layout: str = "contiguous"
    precision: str = "fp32"
    differences: tuple[str, ...] = ()


@attrs.frozen(kw_only=True, eq=False)
class Subject:
    """What is exported: a ticket, with its network as it is in the store, the test inputs and their conditions.

    task: that of the ticket, with what it needs to judge outputs.
    """

    ticket: Ticket
    network: nn.Module
    test: TestInputs
    task: Task = attrs.field(default=attrs.Factory(lambda subject: find_task(subject.ticket.task), takes_self=True))
    conditions: TestConditions = attrs.field(factory=TestConditions)
    allow_code: bool = False


@attrs.frozen
class ExportOptions:
    """raw: leave the normalisation out of the network. sparse: store masked weights compressed. int8: quantise them.

    blocks: compute only the filters and dense blocks of refilled and regrouped layers. part: hold only the part of the
    network with this name, such as `decoder`; empty for all of it, or of a network that generates images its generator.
    """

    raw: bool = False
    sparse: bool = False
    int8: bool = False
    blocks: bool = False
    part: str = ""


@attrs.frozen
class Verified:
    """A file that was verified: its primary metric on the test set, None if it was not judged; and how, in words."""

    score: float | None
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
