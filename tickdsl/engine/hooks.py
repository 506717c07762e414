"""How a step reports on itself while it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.define
class Hooks:
    """How an operation speaks while it works.

    `between_steps` is called between optimiser steps with what saves the training at once; it may wait, or
    raise Stopped.
    `progress`, `step_warning` (what a person should know of it)
    and `checkpoint_saved` (how many epochs of it a checkpoint keeps) are told
    a training by its key, `rewind_point_saved` the key of a rewinding point that one left on its way.
    """

    progress: Callable[[str, dict[str, Any]], None] = lambda key, report: None
    between_steps: Callable[[Callable[[], None]], None] = lambda save: None
    step_warning: Callable[[str, str], None] = lambda key, message: None
    warn: Callable[[str], None] = lambda message: None
    log: Callable[[str], None] = lambda message: None
    rewind_point_saved: Callable[[str], None] = lambda key: None
    checkpoint_saved: Callable[[str, float], None] = lambda key, epoch: None
    #: Told why trainings like that of the key are not stacked.
    not_stackable: Callable[[str, str], None] = lambda key, reason: None
