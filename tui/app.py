"""The app around the screens: it reads, it draws what changed, it asks the engine; it never touches the run itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Input

from tickdsl.errors import TickdslError
from tickdsl.records import Process, RunPaths

from .control_requests import ControlRequests
from .engine_log import engine_log_tail
from .event_source import EventSource
from .feed import Feed
from .keys import TAB_TITLES, VIEWS, help_sections, key_label, key_line_items
from .screens.compare import CompareView
from .screens.confirm import Confirm
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
from .views.status import FINAL_STATUSES, key_line, tab_line, title_line
from .widgets.line import Line
from .widgets.rows import Rows

POLL_SECONDS = 0.25
_BACKLOG_POLL_SECONDS = 0.01  # seconds between two slices while a backlog is read
_IDLE_REDRAW_SECONDS = 1.0  # seconds after which times are told anew though nothing happened


class Monitor(App[None]):
    """Shows a run from its events.

    `source` gives the events; `control` is the file that takes requests and `folder` the run's folder, None where
    there is none; `plan_text` is the plan's source; `engine` the process that was begun, where it is known. `clock`
    gives seconds since 1970.
    """

    CSS_PATH = "monitor.tcss"
    TITLE = "tickdsl"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (90, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-middle"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(n + 1), f"view('{name}')", TAB_TITLES[name], id=f"view.{name}") for n, name in enumerate(VIEWS)),
        Binding("slash", "filter", "Filter", id="filter"),
        Binding("escape", "end_filter", "Back: end the filter", id="back"),
        Binding("space", "freeze", "Freeze the view; the run goes on", id="freeze"),
        Binding("p", "pause", "Pause the run, resume it", id="pause"),
        Binding("x", "stop", "Stop the run; it can be taken up again", id="stop"),
        Binding("s", "screenshot_here", "Screenshot as SVG", id="screenshot"),
        Binding("d", "theme", "Dark, light", id="theme"),
        Binding("0", "reset", "Screen as it was at first", id="reset"),
        Binding("question_mark", "help", "Help", id="help"),
        Binding("ctrl+p", "command_palette", "Commands", id="palette", priority=True),
        Binding("q", "quit", "Leave the monitor; the run goes on", id="detach"),
    ]
    KEY_LINE: ClassVar[tuple[tuple[str, str], ...]] = (
        ("q", "leave"), ("space", "freeze"), ("p", "pause"), ("x", "stop"),
    )  # fmt: skip

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
        self.filter_text = ""  # the filter
        self.frozen = False
        self._frozen_at = 0
        self._snapshots = SnapshotBuilder(self.feed, engine, has_engine)
        self._drawn_at = float("-inf")  # when, by the monotonic clock, and of how many events
        self._draw_seconds = 0.0
        self._stale = True
        self._failure_shown = False
        self._crash_reported = False
        for theme in themes():
            self.register_theme(theme)
        self.theme = "tickdsl-dark"

    # -- what is seen

    def compose(self) -> ComposeResult:
        yield Line(id="title")
        yield Line(id="tabs")
        with ContentSwitcher(initial="run", id="views"):
            yield RunView(id="run")
            yield LayersView(id="layers")
            yield CompareView(id="compare")
            yield PlanView(id="plan", text=self.plan_text)
            yield LogView(id="log")
        yield Input(placeholder="words that must occur; esc ends the filter", id="filter")
        yield Line(id="keys")

    def on_mount(self) -> None:
        self.query_one("#filter").display = False
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.view.take_focus()
        self.tick()

    @property
    def view(self) -> View:
        """The screen that is seen."""
        return self.query_one(f"#{self.query_one(ContentSwitcher).current}", View)

    @property
    def palette(self) -> Palette:
        """The colours of the theme."""
        return palette_of(self.theme)

    def tick(self) -> None:
        """Read what came, draw what changed, and come again."""
        if not self.screen_stack:
            return  # the app is closing
        try:
            behind = self.feed.behind
            self._stale = self.feed.advance() or self._stale or self.feed.behind != behind
        except TickdslError as error:
            self.notify(str(error), title="The events cannot be read", severity="error")
        now = time.monotonic()
        since_last_draw = now - self._drawn_at
        # Drawing takes a tenth of the time at most, however large the plan is.
        due = self._stale and since_last_draw >= max(POLL_SECONDS * 0.9, 10 * self._draw_seconds)
        if due or since_last_draw >= _IDLE_REDRAW_SECONDS or self._drawn_at < 0:
            self.draw()
        self.set_timer(_BACKLOG_POLL_SECONDS if self.feed.behind else POLL_SECONDS, self.tick)

    def draw(self) -> None:
        """Draw the lines around the screen, and the screen unless it is frozen."""
        began = time.perf_counter()
        snapshot = self._snapshots.snapshot(self.clock(), self.filter_text)
        if self.requests.resolve(self.feed.acks, snapshot.status in FINAL_STATUSES):
            self._stale = True
        self._draw_bars(snapshot)
        if not self.frozen:
            self._announce(snapshot)
            self.view.show(snapshot)
            self._stale = False
        self._drawn_at = time.monotonic()
        self._draw_seconds = time.perf_counter() - began

    def _draw_bars(self, snapshot: Snapshot) -> None:
        palette, screen = self.palette, self.screen_stack[0]
        hint = self.hint(snapshot)
        pending_text = self.requests.pending_text
        screen.query_one("#title", Line).show(lambda width: title_line(snapshot, width, palette, pending_text, hint))
        current = screen.query_one(ContentSwitcher).current or ""
        names = [(str(n + 1), TAB_TITLES[name], name == current) for n, name in enumerate(VIEWS)]
        screen.query_one("#tabs", Line).show(lambda width: tab_line(names, self.filter_text, width, palette))
        view = screen.query_one(f"#{current}", View)
        keys = key_line_items(view, self.KEY_LINE, snapshot.status in ("paused", "pausing"))
        screen.query_one("#keys", Line).show(lambda width: key_line(keys, width, palette))

    def hint(self, snapshot: Snapshot) -> str:
        """What stands in the title besides the run."""
        if self.feed.behind:
            return f"reading {self.feed.event_count:,} events…"
        if self.frozen:
            return f"frozen, {self.feed.event_count - self._frozen_at} more events"
        ended = getattr(self.feed.source, "ended", False)  # of a pipe: nobody writes into it any more
        return "the stream has ended" if ended and snapshot.status not in FINAL_STATUSES else ""

    def _announce(self, snapshot: Snapshot) -> None:
        """Go to the first failure; say it once when the engine has died."""
        if snapshot.state.count("failed") and not self._failure_shown and not self.feed.behind:
            self._failure_shown = True
            self.show_view("run")
            self.query_one(RunView).show_failure(snapshot)
            self.notify("A step failed: enter shows its traceback", severity="error")
        if snapshot.status.endswith("crashed") and not self._crash_reported:
            self._crash_reported = True
            tail = engine_log_tail(self.folder)
            self.query_one(RunView).engine_log_tail = tail
            self.query_one(LogView).engine_log_tail = tail
            self.notify("The engine is gone; the same `tickdsl run` goes on from here", severity="error", timeout=12)
        elif not snapshot.status.endswith("crashed"):
            self._crash_reported = False

    # -- keys

    def show_view(self, name: str) -> None:
        """Bring a screen up."""
        self.query_one(ContentSwitcher).current = name
        self.view.take_focus()
        self.draw_now()

    def show_layers(self, arm: str) -> None:
        """Bring up the layers of an arm."""
        self.show_view("layers")
        self.query_one(LayersView).show_arm(arm)

    def draw_now(self) -> None:
        """Draw, frozen or not: a key asked for it."""
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
        """End the filter."""
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

    def action_pause(self) -> None:
        status = self.feed.state.status
        self._request("resume" if status in ("paused", "pausing") else "pause")

    def action_stop(self) -> None:
        if not self._can_request():
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._request("stop")

        more = "Running trainings keep a checkpoint. The same `tickdsl run` goes on from there."
        self.push_screen(Confirm("Stop the run?", more), answered)

    def _can_request(self) -> bool:
        status = self._snapshots.status(self.clock())
        if status in FINAL_STATUSES:
            self.notify(f"The run is over: {status}", severity="warning")
        return status not in FINAL_STATUSES

    def _request(self, command: str) -> None:
        if not self._can_request():
            return
        try:
            self.requests.send(command, self.clock())
        except TickdslError as error:
            self.notify(str(error), severity="warning")
        self.draw()

    def action_screenshot_here(self) -> None:
        folder = self.folder if self.folder is not None else Path.cwd()
        file = RunPaths(folder).screenshot(datetime.fromtimestamp(self.clock()))
        try:
            path = self.save_screenshot(file.name, str(file.parent))
        except OSError as error:
            self.notify(f"{folder}: {error.strerror}", title="No screenshot", severity="error")
            return
        self.notify(path, title="Screenshot", markup=False)

    def action_theme(self) -> None:
        self.theme = "tickdsl-light" if self.theme == "tickdsl-dark" else "tickdsl-dark"
        self.draw_now()
        self.refresh(layout=True)

    def action_reset(self) -> None:
        self.action_end_filter()
        self.view.reset()

    def action_help(self) -> None:
        self.push_screen(help_screen(help_sections(self.view, self.BINDINGS, Rows.BINDINGS)))

    def action_help_quit(self) -> None:
        """What ctrl+c does here: it says which key does what the hand may have meant."""
        self.notify("q leaves the monitor and the run goes on; x stops the run")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of the screens rest while something is open over them."""
        dialog_open = len(self.screen_stack) > 1
        return not (dialog_open and action in _BLOCKED_BY_DIALOG)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for name in VIEWS:
            yield SystemCommand(
                f"Show {TAB_TITLES[name]}", f"screen {VIEWS.index(name) + 1}", lambda n=name: self.show_view(n)
            )
        for binding in self.BINDINGS:
            if isinstance(binding, Binding) and not binding.action.startswith(
                ("view(", "command_palette", "end_filter")
            ):
                yield SystemCommand(
                    binding.description, f"key {key_label(binding.key)}", lambda b=binding: self._run_later(b)
                )
        for arm in self.feed.state.arms:
            yield SystemCommand(
                f"Layers of {arm.id}", "what is left of each layer", lambda a=arm.id: self.show_layers(a)
            )

    def _run_later(self, binding: Binding) -> None:
        self.call_later(self.run_action, binding.action)


_BLOCKED_BY_DIALOG = frozenset(
    {"view", "filter", "end_filter", "freeze", "pause", "stop", "theme", "reset", "help", "screenshot_here", "quit"}
)


def watch(
    source: EventSource,
    *,
    control: Path | None = None,
    folder: Path | None = None,
    plan_text: str | None = None,
    engine: Process | None = None,
) -> int:
    """Show a run until the person leaves; 0, or what Textual says of a monitor that broke down."""
    app = Monitor(source, control=control, folder=folder, plan_text=plan_text, engine=engine)
    app.run()
    return app.return_code or 0
