"""What holds for every test process: one thread, interrupts that arrive, and the same random examples each time."""

import os
import signal

from hypothesis import settings

# More threads than free cores make everything many times slower, not just a little.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".pytest_cache/hypothesis")

# A change passes or fails by what it contains, not by what was drawn: `--hypothesis-profile=explore` draws anew.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile("fixed")

# A shell without job control starts background jobs with SIGINT ignored, and all their children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: archives hold the time, and pytest-xdist needs the same names in every process."""
    return argname if isinstance(val, bytes) else None
