"""How a step reports on itself while it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.define
class Hooks:
    """How an operation speaks while it works.

    `between` is called between optimiser steps with what saves the training at once; it may wait, or raise Stopped.
    `progress`, `note` (what a person should know of it) and `saved` (how many epochs of it a checkpoint keeps) are told
    a training by its key, `deposited` the key of a rewinding point that one left on its way.
    """

    progress: Callable[[str, dict[str, Any]], None] = lambda key, report: None
    between: Callable[[Callable[[], None]], None] = lambda save: None
    note: Callable[[str, str], None] = lambda key, message: None
    warn: Callable[[str], None] = lambda message: None
    log: Callable[[str], None] = lambda message: None
    deposited: Callable[[str], None] = lambda key: None
    saved: Callable[[str, float], None] = lambda key, epoch: None
    #: Told why trainings like that of the key are not stacked.
    single: Callable[[str, str], None] = lambda key, why: None
