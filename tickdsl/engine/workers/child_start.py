"""Start child processes of Python that depend on nothing in the working folder and nothing in the caller's script."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from tickdsl.engine.workers.worker_group import ENDING_SIGNALS

#: Not on Windows.
HAS_SIGNAL_MASKS = hasattr(signal, "pthread_sigmask")

_lock = threading.Lock()


@contextlib.contextmanager
def clean_start() -> Iterator[None]:
    """Child processes that `multiprocessing` starts in this block have a safe path and do not import `__main__`.

    The server that workers are forked from and the tracker of shared resources are `python -c …`: without a safe path,
    they would run a `selectors.py` of the working folder. And every worker would run a script that calls `launch`
    again, if it has no `if __name__ == "__main__"` guard.
    """
    with _lock:
        main_module, safe_path = sys.modules["__main__"], os.environ.get("PYTHONSAFEPATH")
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            yield
        finally:
            sys.modules["__main__"] = main_module
            if safe_path is None:
                del os.environ["PYTHONSAFEPATH"]
            else:
                os.environ["PYTHONSAFEPATH"] = safe_path


def start_method() -> str:
    """How worker processes start: forked from a server that has loaded torch; on Windows, each loads it anew."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def child_processes() -> Any:
    """The context of `multiprocessing` that worker processes are started in."""
    context: Any = multiprocessing.get_context(start_method())
    if start_method() == "forkserver":
        context.set_forkserver_preload(["tickdsl.engine.steps.operations"])
    return context


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Start child processes with these signals blocked: the engine handles them for the whole process group."""
    if not HAS_SIGNAL_MASKS:
        yield
        return
    from multiprocessing import resource_tracker  # which Windows cannot import

    resource_tracker.ensure_running()  # if it were started later, it would unblock them
    previous_mask = _block_signals()
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)


def ignore_ending_signals() -> None:
    """Leave the signals at which a run ends to the engine; called by a child process."""
    if HAS_SIGNAL_MASKS:
        _block_signals()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a Windows console


def _block_signals() -> set[Any]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
