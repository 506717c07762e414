"""Keys that ask the engine to pause, resume or stop the run."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import App

from tickdsl.errors import TickdslError
from tickdsl.results.formatting import describe_status

from .control_requests import ControlRequests
from .screens.confirm import Confirm
from .views.status import FINAL_STATUSES


class EngineControlApp(App[None]):
    """An app that controls the engine through `requests`. Subclasses say what the run is doing and draw."""

    requests: ControlRequests
    clock: Callable[[], float]

    def run_status(self) -> str:
        """The effective status of the run."""
        raise NotImplementedError

    def draw(self) -> None:
        """Draw the app."""
        raise NotImplementedError

    def action_pause(self) -> None:
        self._request("resume" if self.run_status() in ("paused", "pausing") else "pause")

    def action_stop(self) -> None:
        if not self._can_request():
            return

        def on_answer(confirmed: bool | None) -> None:
            if confirmed:
                self._request("stop")

        details = "Running trainings save a checkpoint. Use the same `tickdsl run` command to resume."
        self.push_screen(Confirm("Stop the run?", details), on_answer)

    def _can_request(self) -> bool:
        status = self.run_status()
        if status in FINAL_STATUSES:
            clause = describe_status(status)
            self.notify(f"{clause[0].upper()}{clause[1:]}", severity="warning", markup=False)
        return status not in FINAL_STATUSES

    def _request(self, command: str) -> None:
        if not self._can_request():
            return
        try:
            self.requests.send(command, self.clock())
        except TickdslError as error:
            self.notify(str(error), severity="warning", markup=False)
        self.draw()
