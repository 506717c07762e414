"""The CPU time of commands with all their processes, also of those that outlive the one they come from (Linux only).

Workers of tickdsl come from a server process that ends after the command: unless someone adopts it, their CPU time,
which is most of it, counts for nobody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends first. Exits where the system cannot do that."""
    try:
        adopted = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    except AttributeError:
        adopted = False
    if not adopted:
        raise SystemExit("CPU times of all processes of a command can be measured on Linux only")


def children_seconds() -> float:
    """Wait until all children have ended; the CPU seconds (user and system) of all until now."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
