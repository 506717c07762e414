"""Reports of the workers that change nothing about a run, as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from tickdsl.engine.messages import CheckpointSaved, LogMessage, Progress, SearchProgress, StepWarning, Transferred
from tickdsl.records import events
from tickdsl.records.transfers import TRANSFERS

Report = Progress | SearchProgress | StepWarning | LogMessage | CheckpointSaved | Transferred


@attrs.define
class WorkerReports:
    """Emits the reports of the workers as events; `names` are the short names of the steps."""

    emit: Callable[[events.Event], None]
    names: Mapping[str, str]
    _logged: set[str] = attrs.field(init=False, factory=set)

    def add(self, report: Report) -> None:
        """Emit the event of a report; a message that another worker has logged is not repeated."""
        match report:
            case Progress(key, progress):
                self.emit(events.StepProgress(step=self.names[key], **progress))
            case SearchProgress(key, done, total):
                self.emit(events.SearchProgress(step=self.names[key], done=done, total=total))
            case StepWarning(key, text):
                self.emit(events.Warn(message=f"{self.names[key]}: {text}" if key in self.names else text))
            case CheckpointSaved(key, epoch):
                self.emit(events.Checkpoint(step=self.names[key], epoch=epoch))
            case Transferred(transfers):
                TRANSFERS.add(transfers)  # the heartbeat emits them together with the engine's own
            case LogMessage(text):
                if text not in self._logged:  # every worker logs the choices of this machine
                    self._logged.add(text)
                    self.emit(events.Log(message=text))
