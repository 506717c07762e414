"""Exit codes of a run."""

from __future__ import annotations

OK, STEP_FAILED, STOPPED, INTERRUPTED = 0, 3, 4, 130
