"""The monitor on a recording: the same screens, and keys for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

from tickdsl.records import EventRecord
from tickdsl.results.formatting import format_duration

from .app import Monitor
from .replay_source import ReplaySource
from .views.snapshot import Snapshot


class ReplayMonitor(Monitor):
    """Plays a recorded run. Arrows belong to the clock here; enter and the mouse open what they would."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(b for b in Monitor.BINDINGS if isinstance(b, Binding) and b.id not in ("freeze", "pause", "stop")),
        Binding("space", "play", "Play, hold", id="replay.play"),
        Binding("left", "step(-1, False)", "An event back", id="replay.back", priority=True),
        Binding("right", "step(1, False)", "An event on", id="replay.on", priority=True),
        Binding("shift+left", "step(-1, True)", "To the step before", id="replay.step-back", priority=True),
        Binding("shift+right", "step(1, True)", "To the next step", id="replay.step-on", priority=True),
        Binding("plus,equals_sign", "speed(1)", "Faster", id="replay.faster"),
        Binding("minus", "speed(-1)", "Slower", id="replay.slower"),
        Binding("home", "seek('start')", "To the beginning", id="replay.start", priority=True),
        Binding("end", "seek('end')", "To the end", id="replay.end", priority=True),
    ]
    KEY_LINE: ClassVar[tuple[tuple[str, str], ...]] = (
        ("q", "leave"), ("space", "play"), ("← →", "event"), ("+ -", "speed"),
    )  # fmt: skip

    def __init__(
        self,
        replay: ReplaySource,
        *,
        folder: Path | None = None,
        plan_text: str | None = None,
    ) -> None:
        super().__init__(replay, folder=folder, plan_text=plan_text, clock=replay.now, has_engine=False)
        self.replay = replay

    def hint(self, snapshot: Snapshot) -> str:
        replay = self.replay
        sign = f"▶ ×{replay.speed:g}" if replay.playing else "⏸ held"
        return f"{sign} {format_duration(replay.elapsed)}/{format_duration(replay.length)}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        is_clock_action = action in ("play", "step", "speed", "seek")
        if is_clock_action and (len(self.screen_stack) > 1 or isinstance(self.focused, Input)):
            return False
        return super().check_action(action, parameters)

    def action_play(self) -> None:
        self.replay.play(not self.replay.playing)
        self._clock_moved()

    def action_step(self, count: int, by_step: bool) -> None:
        self.replay.step(count, by_step)
        self._clock_moved()

    def action_speed(self, direction: int) -> None:
        self.replay.change_speed(direction)
        self._clock_moved()

    def action_seek(self, to: str) -> None:
        self.replay.to_start() if to == "start" else self.replay.to_end()
        self._clock_moved()

    def _clock_moved(self) -> None:
        self.feed.advance()
        self.draw()


def replay(
    records: Iterable[EventRecord],
    speed: float = 60.0,
    folder: Path | None = None,
    plan_text: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Show a recorded run until the person leaves; 0, or what Textual says of a monitor that broke down."""
    app = ReplayMonitor(ReplaySource(records, speed, clock), folder=folder, plan_text=plan_text)
    app.run()
    return app.return_code or 0
