"""The settings of a run that steps need."""

from __future__ import annotations

from pathlib import Path

import attrs

from tickdsl.records.bucket_location import CachedBucket
from tickdsl.records.generations import Generation


@attrs.frozen
class Settings:
    """How to run the steps; nothing here is part of the key of a step."""

    store: Path
    data: Path
    #: The bucket that `store` caches, if workers on other machines are to open it there; None for those of this one.
    bucket: CachedBucket | None = None
    device: str = "cpu"
    #: The devices that one network is trained on, this one first; empty or one: this device alone.
    group: tuple[str, ...] = ()
    threads: int = 1
    jobs: int = 1
    checkpoint_seconds: float = 30.0
    #: The number of trainings of equal shape to stack; None: as many as there are, if that is measured to be faster.
    stack: int | None = 1
    #: Whether to use only algorithms that give the same bits each time.
    deterministic: bool = False
    #: How long results of other machines may be invisible here; 0: there are none.
    visibility_seconds: float = 0.0
    #: Whether quoted names in plans may run code.
    allow_code: bool = False
    #: What a run with `--fresh` makes anew; None: stored results are used.
    generation: Generation | None = None
