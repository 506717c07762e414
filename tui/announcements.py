"""Tells the user once what has just happened to the run: a step failed, the engine crashed, the run ended."""

from __future__ import annotations

from pathlib import Path

from textual.app import App

from .engine_log import engine_log_tail
from .screens.log import LogView
from .screens.run import RunView
from .views.ending import ending_title
from .views.snapshot import Snapshot


class Announcements:
    """What has been announced so far. `folder` is the folder of the run, for the last words of a crashed engine."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._failure_shown = False
        self._crash_reported = False
        self._seen_live = False

    def is_first_failure(self, snapshot: Snapshot, behind: bool) -> bool:
        """Whether a step has failed that was not shown yet. `behind`: older events are still being read."""
        if self._failure_shown or behind or not snapshot.state.count("failed"):
            return False
        self._failure_shown = True
        return True

    def announce(self, app: App[None], snapshot: Snapshot, behind: bool, on_run_screen: bool) -> None:
        """Report a crash or the end; the run screen has a panel for both, so it needs no message there."""
        crashed = snapshot.status.endswith("crashed")
        if crashed and not self._crash_reported:
            tail = engine_log_tail(self._folder)
            app.screen_stack[0].query_one(RunView).engine_log_tail = tail
            app.screen_stack[0].query_one(LogView).engine_log_tail = tail
            if not on_run_screen:
                app.notify("The engine crashed; press 1 for the cause", severity="error", timeout=12)
        self._crash_reported = crashed
        if snapshot.is_live and snapshot.state.steps and not behind:
            self._seen_live = True
        elif self._seen_live and not snapshot.is_live and not crashed:
            self._seen_live = False
            if not on_run_screen:
                app.notify(f"{ending_title(snapshot)}; press 1 for the verdicts", timeout=12, markup=False)
