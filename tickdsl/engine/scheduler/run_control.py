"""Stop, pause and resume a run: requests of the user, passed on to the workers and acknowledged by events."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tickdsl.engine.messages import PAUSE, RUN, STOP
from tickdsl.engine.scheduler.exit_codes import INTERRUPTED, STOPPED
from tickdsl.engine.workers.worker_group import WorkerGroup
from tickdsl.records import events
from tickdsl.records.control import ControlReader, Request


@attrs.define
class RunControl:
    """The state of a run: running, pausing, paused or stopping.

    `running` are the keys of the steps that workers are running; the interpreter keeps it up to date. `on_paused` is
    called when the run is paused, and when it is not any more. `workers` is None until they are started.
    """

    requests: ControlReader
    emit: Callable[[events.Event], None]
    running: set[str]
    on_paused: Callable[[bool], None] = lambda paused: None
    workers: WorkerGroup | None = None
    exit_code: int | None = attrs.field(init=False, default=None)
    _stop_sent: bool = attrs.field(init=False, default=False)
    _pause_request: Request | None = attrs.field(init=False, default=None)
    _pause_acknowledged: bool = attrs.field(init=False, default=False)
    _paused_steps: set[str] = attrs.field(init=False, factory=set)

    @property
    def is_pausing(self) -> bool:
        """Whether a pause was requested and not ended."""
        return self._pause_request is not None

    def stop(self, code: int) -> None:
        """End the run with this exit code at the next safe point; trainings save a checkpoint.

        Only sets a flag, so it can be called from a signal handler.
        """
        self.exit_code = code

    def poll(self) -> None:
        """Handle new requests, and tell the workers to stop if the run is ending.

        Raises KeyboardInterrupt if the user requests a second stop.
        """
        for request in self.requests.poll():
            self._handle_request(request)
        if self.exit_code is not None and not self._stop_sent and self.workers is not None:
            self._stop_sent = True
            self.workers.set_command(STOP)
            if self.running:
                hint = "; press Ctrl-C again to end at once" if self.exit_code == INTERRUPTED else ""
                self.emit(events.Log(message=f"stopping: running trainings save a checkpoint{hint}"))

    def step_paused(self, key: str) -> None:
        """Note that a step is paused."""
        self._paused_steps.add(key)
        self.acknowledge_pause()

    def step_ended(self, key: str) -> None:
        """Note that a step has ended."""
        self._paused_steps.discard(key)

    def acknowledge_pause(self) -> None:
        """Acknowledge a pause as soon as all running steps are paused."""
        if (
            self._pause_request is not None
            and self.exit_code is None
            and not self._pause_acknowledged
            and self.running <= self._paused_steps
        ):
            self._pause_acknowledged = True
            self._acknowledge(self._pause_request, "paused")

    def _handle_request(self, request: Request) -> None:
        if request.command == "stop":
            if self.exit_code is not None and self._stop_sent:  # the second stop: end at once
                self._acknowledge(request, "stopping")
                raise KeyboardInterrupt
            self.exit_code = STOPPED if self.exit_code is None else self.exit_code
        if self.exit_code is not None:
            self._acknowledge(request, "stopping")
        elif request.command == "resume":
            self._pause_request = None
            self._paused_steps.clear()
            self._command_workers(RUN)
            self._acknowledge(request, "running")
        else:
            self._pause_request, self._pause_acknowledged = request, False
            self._command_workers(PAUSE)
            if self.running - self._paused_steps:
                self._acknowledge(request, "pausing")
            self.acknowledge_pause()

    def _command_workers(self, command: int) -> None:
        if self.workers is not None:
            self.workers.set_command(command)

    def _acknowledge(self, request: Request, state: str) -> None:
        self.on_paused(state == "paused")
        self.emit(events.ControlAck(id=request.id, command=request.command, state=state))
