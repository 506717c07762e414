"""The monitor app: reads events, draws the screens and handles keys. It never touches the run itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.printable import printable_line
from tickdsl.records import Process, RunPaths

from .announcements import Announcements
from .command_palette import system_commands
from .control_requests import ControlRequests
from .draw_schedule import POLL_SECONDS, DrawSchedule
from .event_source import EventSource
from .feed import Feed
from .keys import TAB_TITLES, VIEWS, help_sections, key_line_items, key_of
from .report_actions import ReportActionsApp
from .screens.compare import CompareView
from .screens.detail import Detail
from .screens.help import help_screen
from .screens.layers import LayersView
from .screens.log import LogView
from .screens.plan import PlanView
from .screens.run import RunView
from .screens.view import View
from .snapshot_builder import SnapshotBuilder
from .theme import palette_of, themes
from .views.glyphs import Palette
from .views.snapshot import Snapshot
from .views.status import FINAL_STATUSES, key_line, progress_line, tab_line, title_line
from .widgets.line import Line
from .widgets.rows import Rows

_BACKLOG_POLL_SECONDS = 0.01  # pause between two slices while a backlog is read


class Monitor(ReportActionsApp):
    """Shows a run from its events.

    `source` yields the events. `control` is the file for requests to the engine and `folder` the folder of the run, if
    there are any; `plan_text` is the source of the plan; `engine` is the engine process, if known. `clock` returns
    seconds since 1970. `has_engine` is False for a recording, which has no engine that could crash.
    """

    CSS_PATH = "monitor.tcss"
    TITLE = "tickdsl"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide"), (120, "-broad"), (160, "-vast")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-middle"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n + 1), f"view('{name}')", TAB_TITLES[name], id=f"view.{name}") for n, name in enumerate(VIEWS)),
        Binding("slash", "filter", "Filter", id="filter"),
        Binding("escape", "end_filter", "Clear the filter", id="back"),
        Binding("space", "freeze", "Freeze the view; the run continues", id="freeze"),
        Binding("p", "pause", "Pause or resume the run", id="pause"),
        Binding("x", "stop", "Stop the run; it can be resumed later", id="stop"),
        Binding("w", "workers", "Workers, idle shares and device hours", id="workers"),
        Binding("o", "open_report", "Open the report, or show its path over ssh", id="report"),
        Binding("e", "export_ticket", "Export the best ticket", id="export"),
        Binding("s", "screenshot_here", "Save an SVG screenshot", id="screenshot"),
        Binding("d", "theme", "Switch between dark and light theme", id="theme"),
        Binding("0", "reset", "Reset the screen", id="reset"),
        Binding("question_mark", "help", "Help", id="help"),
        Binding("ctrl+p", "command_palette", "Command palette", id="palette", priority=True),
        Binding("q", "quit", "Quit the monitor; the run continues", id="detach"),
    ]
    KEY_LINE: ClassVar[tuple[tuple[str, str], ...]] = (
        ("q", "quit"), ("space", "freeze"), ("p", "pause"), ("x", "stop"),
    )  # fmt: skip
    END_KEY_LINE: ClassVar[tuple[tuple[str, str], ...]] = (("q", "quit"), ("o", "report"), ("e", "export"))

    def __init__(
        self,
        source: EventSource,
        *,
        control: Path | None = None,
        folder: Path | None = None,
        plan_text: str | None = None,
        engine: Process | None = None,
        clock: Callable[[], float] = time.time,
        has_engine: bool = True,
    ) -> None:
        super().__init__()
        self.feed = Feed(source)
        self.folder = folder
        self.plan_text = plan_text
        self.clock = clock
        self.requests = ControlRequests(control)
        self.filter_text = ""
        self.frozen = False
        self._frozen_at = 0
        self._snapshots = SnapshotBuilder(self.feed, engine, has_engine)
        self._schedule = DrawSchedule()
        self._announcements = Announcements(folder)
        for theme in themes():
            self.register_theme(theme)
        self.theme = "tickdsl-dark"

    # -- drawing

    def compose(self) -> ComposeResult:
        yield Line(id="title")
        yield Line(id="progress")
        yield Line(id="tabs")
        with ContentSwitcher(initial="run", id="views"):
            yield RunView(id="run")
            yield LayersView(id="layers")
            yield CompareView(id="compare")
            yield PlanView(id="plan", text=self.plan_text)
            yield LogView(id="log")
        yield Input(placeholder="words to search for; esc clears the filter", id="filter")
        yield Line(id="keys")

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.view.take_focus()
        self.tick()

    def run_status(self) -> str:
        return self._snapshots.status(self.clock())

    @property
    def view(self) -> View:
        """The visible screen."""
        return self.query_one(f"#{self.query_one(ContentSwitcher).current}", View)

    @property
    def palette(self) -> Palette:
        """The colours of the current theme."""
        return palette_of(self.theme)

    def tick(self) -> None:
        """Read new events, draw what changed, and schedule the next tick."""
        if not self.screen_stack:
            return  # the app is closing
        try:
            behind = self.feed.behind
            if self.feed.advance() or self.feed.behind != behind:
                self._schedule.stale = True
        except TickdslError as error:
            self.notify(str(error), title="Cannot read the events", severity="error", markup=False)
        if self.feed.state.phase:
            self._schedule.stale = True  # a spinner turns
        if self._schedule.due(time.monotonic()):
            self.draw()
        self.set_timer(_BACKLOG_POLL_SECONDS if self.feed.behind else POLL_SECONDS, self.tick)

    def draw(self) -> None:
        """Draw the bars, and the screen unless it is frozen."""
        began = time.perf_counter()
        self.ensure_focus()
        snapshot = self._snapshots.snapshot(self.clock(), self.filter_text)
        if self.requests.resolve(self.feed.acks, snapshot.status in FINAL_STATUSES):
            self._schedule.stale = True
        self._draw_bars(snapshot)
        if not self.frozen:
            self._announce(snapshot)
            self.view.show(snapshot)
            self._schedule.stale = False
        self._schedule.drawn(time.monotonic(), time.perf_counter() - began)

    def _draw_bars(self, snapshot: Snapshot) -> None:
        palette, screen = self.palette, self.screen_stack[0]
        hint = self.hint(snapshot)
        pending_text = self.requests.pending_text
        screen.query_one("#title", Line).show(lambda width: title_line(snapshot, width, palette, pending_text, hint))
        current = screen.query_one(ContentSwitcher).current or ""
        screen.query_one("#progress", Line).show(lambda width: progress_line(snapshot, width, palette))
        names = [(str(n + 1), name, TAB_TITLES[name], name == current) for n, name in enumerate(VIEWS)]
        screen.query_one("#tabs", Line).show(lambda width: tab_line(names, self.filter_text, width, palette))
        view = screen.query_one(f"#{current}", View)
        app_keys = self.KEY_LINE if snapshot.is_live else self.END_KEY_LINE
        if snapshot.status.endswith("crashed"):
            app_keys = app_keys[:1]  # there is no report, and nothing more to control
        keys = key_line_items(view, app_keys, snapshot.status in ("paused", "pausing"))
        screen.query_one("#keys", Line).show(lambda width: key_line(keys, width, palette))

    def hint(self, snapshot: Snapshot) -> str:
        """A remark for the title bar, "" if there is none."""
        if self.feed.behind:
            return f"reading {plural(self.feed.event_count, 'event')}…"
        if self.frozen:
            return f"frozen, {plural(self.feed.event_count - self._frozen_at, 'new event')}"
        ended = getattr(self.feed.source, "ended", False)  # only a pipe has an end
        return "end of stream" if ended and snapshot.status not in FINAL_STATUSES else ""

    def _announce(self, snapshot: Snapshot) -> None:
        """Show the first failure, and report a crash or the end once."""
        if self._announcements.is_first_failure(snapshot, self.feed.behind):
            self.show_view("run")
            self.query_one(RunView).show_failure(snapshot)
            self.notify("A step failed; press enter to show its traceback", severity="error")
        self._announcements.announce(self, snapshot, self.feed.behind, self.view.id == "run")

    # -- keys

    def ensure_focus(self) -> None:
        """Focus the visible screen if a resize has hidden what had the focus: its keys would be dead."""
        if len(self.screen_stack) > 1:
            return
        focused = self.focused
        if focused is None or not all(getattr(node, "display", True) for node in focused.ancestors_with_self):
            self.view.take_focus()

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and self.screen_stack:
            self.ensure_focus()
        await super().on_event(event)

    def action_press(self, label: str) -> None:
        """Press the key with this label in the key bar."""
        self.ensure_focus()
        self.simulate_key(key_of(label))

    def show_view(self, name: str) -> None:
        """Switch to a screen."""
        self.query_one(ContentSwitcher).current = name
        self.view.take_focus()
        self.draw_now()

    def show_layers(self, arm: str) -> None:
        """Switch to the layers of an arm."""
        self.show_view("layers")
        self.query_one(LayersView).show_arm(arm)

    def draw_now(self) -> None:
        """Draw even if frozen, in response to a key."""
        frozen, self.frozen = self.frozen, False
        self.draw()
        self.frozen = frozen
        if frozen:
            self._draw_bars(self._snapshots.snapshot(self.clock(), self.filter_text))

    def action_view(self, name: str) -> None:
        self.show_view(name)

    def action_filter(self) -> None:
        box = self.query_one("#filter", Input)
        box.display = True
        box.focus()

    def action_end_filter(self) -> None:
        """Clear and hide the filter."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.display = False
        self.view.take_focus()

    @on(Input.Changed, "#filter")
    def _filter_changed(self, message: Input.Changed) -> None:
        if message.value != self.filter_text:
            self.filter_text = message.value
            self.draw_now()

    @on(Input.Submitted, "#filter")
    def _filter_done(self) -> None:
        self.query_one("#filter").display = bool(self.filter_text)
        self.view.take_focus()

    def action_freeze(self) -> None:
        self.frozen = not self.frozen
        self._frozen_at = self.feed.event_count
        self.draw()

    def action_screenshot_here(self) -> None:
        folder = self.folder if self.folder is not None else Path.cwd()
        file = RunPaths(folder).screenshot(datetime.fromtimestamp(self.clock()))
        try:
            path = self.save_screenshot(file.name, str(file.parent))
        except OSError as error:
            message = printable_line(f"{folder}: {error.strerror}")
            self.notify(message, title="Screenshot failed", severity="error", markup=False)
            return
        self.notify(printable_line(path), title="Screenshot", markup=False)

    def action_theme(self) -> None:
        self.theme = "tickdsl-light" if self.theme == "tickdsl-dark" else "tickdsl-dark"
        self.draw_now()
        self.refresh(layout=True)

    def action_reset(self) -> None:
        self.action_end_filter()
        self.view.reset()

    def action_help(self) -> None:
        self.push_screen(help_screen(help_sections(self.view, self.BINDINGS, Rows.BINDINGS)))

    def action_workers(self) -> None:
        """Show what each worker does, as of now."""
        self.push_screen(Detail.of_workers(self._snapshots.snapshot(self.clock(), self.filter_text)))

    def action_help_quit(self) -> None:
        """Handle ctrl+c: explain which key quits and which stops the run."""
        self.notify("Press q to quit the monitor (the run continues), or x to stop the run")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the keys of the screens while a dialog is open."""
        dialog_open = len(self.screen_stack) > 1
        return not (dialog_open and action in _BLOCKED_BY_DIALOG)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        arms = [arm.id for arm in self.feed.state.arms]
        yield from system_commands(self.BINDINGS, arms, self.show_view, self.show_layers, self._run_later)

    def _run_later(self, action: str) -> None:
        self.call_later(self.run_action, action)


_BLOCKED_BY_DIALOG = frozenset(
    {
        "view",
        "filter",
        "end_filter",
        "freeze",
        "pause",
        "stop",
        "theme",
        "reset",
        "help",
        "workers",
        "screenshot_here",
        "quit",
        "open_report",
        "export_ticket",
        "press",
    }
)


def watch(
    source: EventSource,
    *,
    control: Path | None = None,
    folder: Path | None = None,
    plan_text: str | None = None,
    engine: Process | None = None,
) -> int:
    """Show a run until the user quits; returns 0, or Textual's return code if the monitor crashed."""
    app = Monitor(source, control=control, folder=folder, plan_text=plan_text, engine=engine)
    app.run()
    return app.return_code or 0
