"""Callbacks through which a running step reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs


@attrs.define
class Hooks:
    """Callbacks through which a running step reports; `key` is the key of the step."""

    #: An epoch of a training has ended.
    progress: Callable[[str, dict[str, Any]], None] = lambda key, report: None
    #: So many evaluations of a search are made or were stored, out of at most so many.
    search_progress: Callable[[str, int, int], None] = lambda key, done, total: None
    #: Called between optimiser steps with a function that saves a checkpoint; may wait, or raise Stopped.
    between_steps: Callable[[Callable[[], None]], None] = lambda save: None
    #: A warning about one step.
    step_warning: Callable[[str, str], None] = lambda key, message: None
    #: A warning that is not about one step.
    warn: Callable[[str], None] = lambda message: None
    #: A message for the log.
    log: Callable[[str], None] = lambda message: None
    #: A training has come to the rewind point with this key; whether it has stored the result, or found it stored.
    rewind_point_saved: Callable[[str, bool], None] = lambda key, is_new: None
    #: A checkpoint of a training was saved after `epoch` epochs.
    checkpoint_saved: Callable[[str, float], None] = lambda key, epoch: None
    #: Trainings like this one are not stacked, for this reason.
    not_stackable: Callable[[str, str], None] = lambda key, reason: None
