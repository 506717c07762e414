"""Start child processes of Python that depend on nothing in the working folder and nothing in the caller's script."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import types
from collections.abc import Iterator

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
