"""Exit codes of a run."""

from __future__ import annotations

OK, CRASHED, CANNOT_RUN, STEP_FAILED, STOPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130
