"""What is in a bucket, who needs it, and what can go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tickdsl.records.bucket import Bucket
from tickdsl.records.bucket_location import cached_bucket
from tickdsl.records.folders import owner_is_dead
from tickdsl.records.process import Process
from tickdsl.records.run_register import RunRegister

CLEANING = "cleaning"
_POLL_SECONDS = 1.0
#: How long the trace of a process that removes results is believed: it may have died.
_ABANDONED_SECONDS = 600.0


@contextlib.contextmanager
def taking_part(store: Path, folder: Path, keys: Iterable[str], tell: Callable[[str], None]) -> Iterator[None]:
    """Protect the results of these steps for a run, from now on; first wait for removals that are under way.

    A run with a store in a bucket has sent its plan there, which says the same as an entry in the register. `tell`
    receives a message about what the user should know.
    """
    cached = cached_bucket(store)
    if cached is None:
        with RunRegister(store).taking_part(folder, keys, tell):
            yield
        return
    _await_cleaning(Bucket(cached.url), tell)
    yield


def _await_cleaning(bucket: Bucket, tell: Callable[[str], None]) -> None:
    told, deadline = False, time.monotonic() + _ABANDONED_SECONDS
    while time.monotonic() < deadline:
        names = [found.path.rpartition("/")[2] for found in bucket.objects(CLEANING)]
        working = [name for name in names if not owner_is_dead(name)]
        if not working:
            return
        if not told:
            process = Process.from_token(working[0])
            who = f"process {process.pid} on {process.host}" if process else working[0]
            tell(f"waiting for `tickdsl store gc` ({who})")
            told = True
        time.sleep(_POLL_SECONDS)
