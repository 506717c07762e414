"""Keys for the results of a run: open its report, export its best ticket."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path

from textual import work
from textual.app import App

from tickdsl.printable import printable_line
from tickdsl.records import RunPaths

from .engine_control import EngineControlApp

_EXPORT_SECONDS = 600


class ReportActionsApp(EngineControlApp):
    """An app that can open the report of the run in `folder` and export a ticket."""

    folder: Path | None

    @property
    def report(self) -> Path | None:
        """The report of the run, if it is on this host and written."""
        if self.folder is None or not RunPaths(self.folder).report.exists():
            return None
        return RunPaths(self.folder).report

    def action_open_report(self) -> None:
        """Open the report in a browser; on another machine, tell where it is."""
        if self.report is None:
            self.notify("There is no report yet: it is written when the run ends", severity="warning")
        elif not has_browser() or not webbrowser.open(self.report.resolve().as_uri()):
            path = printable_line(str(self.report.resolve()))
            self.notify(path, title="The report is here", markup=False, timeout=30)

    def action_export_ticket(self) -> None:
        """Export the best ticket with `tickdsl export`."""
        if self.folder is None:
            self.notify("The run is on another host: use `tickdsl export` there", severity="warning")
            return
        self.notify("Exporting the best ticket…")
        self._export(self.folder)

    @work(thread=True, exclusive=True, group="export")
    def _export(self, folder: Path) -> None:
        command = [sys.executable, "-P", "-m", "tickdsl.cli", "export", str(folder)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_EXPORT_SECONDS, stdin=subprocess.DEVNULL, check=False
            )
            output, code = (done.stdout if not done.returncode else done.stderr).strip(), done.returncode
        except (OSError, subprocess.TimeoutExpired) as error:
            output, code = str(error), 1
        last = printable_line(output.splitlines()[-1]) if output else "no output"
        self.call_from_thread(_notify_exported, self, last, bool(code))


def _notify_exported(app: App[None], message: str, failed: bool) -> None:
    if failed:
        app.notify(message, title="Export failed", severity="error", markup=False, timeout=30)
    else:
        app.notify(message, title="Exported", markup=False, timeout=30)


def has_browser() -> bool:
    """Whether a browser opened from here would be seen: not over ssh, nor on Linux without a display."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
