"""The monitor for a recorded run: the same screens, with keys for playback."""

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
    """Plays a recorded run. The arrow keys control playback; use enter or the mouse to expand rows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(b for b in Monitor.BINDINGS if isinstance(b, Binding) and b.id not in ("freeze", "pause", "stop")),
        Binding("space", "play", "Play or pause", id="replay.play"),
        Binding("left", "step(-1, False)", "Previous event", id="replay.back", priority=True),
        Binding("right", "step(1, False)", "Next event", id="replay.on", priority=True),
        Binding("shift+left", "step(-1, True)", "Previous step", id="replay.step-back", priority=True),
        Binding("shift+right", "step(1, True)", "Next step", id="replay.step-on", priority=True),
        Binding("plus,equals_sign", "speed(1)", "Faster", id="replay.faster"),
        Binding("minus", "speed(-1)", "Slower", id="replay.slower"),
        Binding("home", "seek('start')", "Go to the start", id="replay.start", priority=True),
        Binding("end", "seek('end')", "Go to the end", id="replay.end", priority=True),
    ]
    KEY_LINE: ClassVar[tuple[tuple[str, str], ...]] = (
        ("q", "quit"), ("space", "play"), ("← →", "event"), ("+ -", "speed"),
    )  # fmt: skip
    END_KEY_LINE = KEY_LINE

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
        playback = f"▶ ×{replay.speed:g}" if replay.playing else "⏸ paused"
        return f"{playback} {format_duration(replay.elapsed)}/{format_duration(replay.length)}"

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
    """Show a recorded run until the user quits; returns 0, or Textual's return code if the monitor crashed."""
    app = ReplayMonitor(ReplaySource(records, speed, clock), folder=folder, plan_text=plan_text)
    app.run()
    return app.return_code or 0
