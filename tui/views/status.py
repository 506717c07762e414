"""The bars around the screens: title, tabs, machine load and keys."""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from rich.text import Text

from tickdsl.records.events import Resource
from tickdsl.results.formatting import format_duration
from tickdsl.results.progress import run_progress, time_left

from .glyphs import SPINNER, STATUS_GLYPHS, Palette, bar, sparkline
from .snapshot import FINAL_STATUSES as FINAL_STATUSES
from .snapshot import Snapshot
from .text_cells import fit, styled_line


def title_line(snapshot: Snapshot, width: int, palette: Palette, pending_request: str = "", hint: str = "") -> Text:
    """Name and status of the run; `pending_request` replaces the status, `hint` is shown on the right."""
    state = snapshot.state
    name = state.run.run if state.run else "the engine is starting" if state.phase else "no event yet"
    status_text = pending_request or snapshot.status
    style = f"bold {palette.unsure if pending_request else palette.status(snapshot.status)}"
    parts = [(f" {STATUS_GLYPHS.get(snapshot.status, '○')} {status_text} ", style)]
    if state.count("failed"):
        parts.append((f"{state.count('failed')} failed ", f"bold {palette.bad}"))
    if snapshot.alarms:
        parts.append(("⚠ no verdict, see 4 ", f"bold {palette.bad}"))
    if hint:
        parts.append((f"{hint} ", f"bold {palette.unsure}"))
    used = sum(len(text) for text, _ in parts)
    room = width - used - 1
    if room < 12 and state.run:
        name = state.run.plan
    line = styled_line((" " + fit(name, max(0, room)), "bold" if state.run else palette.dim), *parts)
    line.truncate(width)
    return line


def progress_line(snapshot: Snapshot, width: int, palette: Palette) -> Text:
    """A bar, the steps, and the times of the whole run; before the first step, what the engine does."""
    state = snapshot.state
    elapsed = "" if state.started is None else format_duration(snapshot.clock_end - state.started)
    if not snapshot.state.steps or (state.phase and snapshot.is_live):
        doing = state.phase or ("waiting for the engine" if snapshot.is_live else "")
        spinner = SPINNER[int(snapshot.now * 4) % len(SPINNER)] if snapshot.is_live else " "
        text = f" {spinner} {doing}…  {elapsed}" if doing else ""
        return styled_line((fit(text, width), palette.accent))
    progress = run_progress(state)
    passed = snapshot.now - state.now if snapshot.status != "paused" else 0.0
    left = time_left(state, passed) if snapshot.is_live else ""
    parts = [f"{100 * progress.share:.0f}%".rjust(4), f"{progress.done}/{progress.total} steps", elapsed, left]
    text = " · ".join(part for part in parts if part)
    room = max(0, width - len(text) - 3)
    colour = palette.accent if snapshot.is_live else palette.status(snapshot.status)
    share = progress.share if progress.share < 1 or progress.done == progress.total else 0.999
    return styled_line((" ", ""), (bar(share, room), f"{colour} on {palette.rule}"), (fit(f" {text} ", width), ""))


def load_line(resources: Sequence[Resource], width: int, palette: Palette) -> Text:
    """The load of the machine in one line: CPU with a sparkline, memory, and GPU if there is one."""
    if not resources:
        return styled_line((fit(" waiting for the first load report", width), palette.dim))
    last = resources[-1]
    parts: list[tuple[str, str]] = []
    if last.cpu is not None:
        history = [resource.cpu for resource in resources if resource.cpu is not None]
        parts += [(" CPU ", palette.dim), (f"{last.cpu:3.0f}% ", ""), (sparkline(history, 16, 100.0), palette.accent)]
    if last.ram is not None:
        parts += [("  RAM ", palette.dim), (_byte_size(last.ram), "")]
    gpu = last.gpu
    if gpu:
        busy, memory, total, watts = (_number(gpu.get(key)) for key in ("percent", "memory", "total", "watts"))
        if busy is not None:
            parts += [("  GPU ", palette.dim), (f"{busy:3.0f}% ", ""), (bar(busy / 100, 8), palette.accent)]
        if memory is not None:
            total_text = f" of {_byte_size(total)}" if total else ""
            parts += [("  memory ", palette.dim), (f"{_byte_size(memory)}{total_text}", "")]
        if watts is not None:
            parts += [("  ", ""), (f"{watts:.0f} W", "")]
    line = styled_line(*parts)
    line.truncate(width)
    return line


def key_line(keys: Sequence[tuple[str, str]], width: int, palette: Palette) -> Text:
    """The key bar: as many keys as fit, in order, and always the last one. A click on a key presses it."""
    line = Text(no_wrap=True, end="")
    if not keys:
        return line
    *others, last = keys
    room = width - len(last[0]) - len(last[1]) - 4
    shown = []
    for key, description in others:
        need = len(key) + len(description) + 3
        if need > room:
            break
        room -= need
        shown.append((key, description))
    for labels, description in (*shown, last):
        first = labels.split()[0]
        for label in labels.split():
            line.append(f" {label}", _clickable(f"bold {palette.accent}", f"app.press({label!r})"))
        line.append(f" {description}", _clickable("", f"app.press({first!r})"))
        line.append(" ")
    return line


def _clickable(style: str, action: str) -> Style:
    return Style.parse(style) + Style.from_meta({"@click": action})


def _byte_size(size: float) -> str:
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def tab_line(names: Sequence[tuple[str, str, str, bool]], filter_text: str, width: int, palette: Palette) -> Text:
    """The tab bar: screens as (key, id, title, active), the active one highlighted, then the filter.

    A click on a screen shows it.
    """
    line = Text(no_wrap=True, end="")
    for key, view, name, active in names:
        action = f"app.view({view!r})"
        highlighted = f"bold {palette.ground} on {palette.accent}"
        line.append(f" {key}", _clickable(highlighted if active else f"bold {palette.accent}", action))
        line.append(f" {name} ", _clickable(highlighted if active else "", action))
        line.append(" ")
    if filter_text:
        line.append(" /", palette.dim)
        line.append(filter_text, f"bold {palette.unsure}")
    line.truncate(width)
    return line
