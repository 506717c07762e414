"""The lines around the screens: which run this is, how far, what the machine does, which keys there are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tickdsl.records.events import Resource
from tickdsl.results.state import ENDED
from tickdsl.results.words import duration

from .glance import Glance
from .line import cells, fit
from .marks import STATUS, Palette, bar, spark

OVER = ENDED | {"crashed", "presumed crashed"}


def title_line(glance: Glance, width: int, palette: Palette, asked: str = "", hint: str = "") -> Text:
    """The run's name, status, steps and times; `asked` is a request without an answer, `hint` stands at the right."""
    state = glance.state
    name = state.run.run if state.run else "no event yet"
    word = asked or glance.status
    style = f"bold {palette.unsure if asked else palette.status(glance.status)}"
    total = len(state.steps) - state.count("skipped")
    parts = [(f" {STATUS.get(glance.status, '○')} {word} ", style)]
    if total:
        parts.append((f"{state.finished}/{total} steps ", ""))
    if state.count("failed"):
        parts.append((f"{state.count('failed')} failed ", f"bold {palette.bad}"))
    if state.started is not None:
        parts.append((f"· {duration(glance.until - state.started)} ", ""))
    eta = state.eta
    if eta is not None and glance.status not in OVER:
        rest = max(0.0, eta - max(0.0, glance.now - state.now)) if glance.status != "paused" else eta
        parts.append((f"· {duration(rest)} left ", palette.accent))
    if hint:
        parts.append((f"{hint} ", f"bold {palette.unsure}"))
    used = sum(len(text) for text, _ in parts)
    room = width - used - 1
    if room < 12 and state.run:
        name = state.run.plan
    line = cells((" " + fit(name, max(0, room)), "bold" if state.run else palette.dim), *parts)
    line.truncate(width)
    return line


def load_line(load: Sequence[Resource], width: int, palette: Palette) -> Text:
    """The machine in one line: the processor with its last minutes, memory, and the GPU where there is one."""
    if not load:
        return cells((fit(" the machine's load comes with the first heartbeat", width), palette.dim))
    last = load[-1]
    parts: list[tuple[str, str]] = []
    if last.cpu is not None:
        history = [found.cpu for found in load if found.cpu is not None]
        parts += [(" cpu ", palette.dim), (f"{last.cpu:3.0f} % ", ""), (spark(history, 16, 100.0), palette.accent)]
    if last.ram is not None:
        parts += [("  ram ", palette.dim), (_size(last.ram), "")]
    gpu = last.gpu
    if gpu:
        busy, memory, total, watts = (_number(gpu.get(key)) for key in ("percent", "memory", "total", "watts"))
        if busy is not None:
            parts += [("  gpu ", palette.dim), (f"{busy:3.0f} % ", ""), (bar(busy / 100, 8), palette.accent)]
        if memory is not None:
            of = f" of {_size(total)}" if total else ""
            parts += [("  mem ", palette.dim), (f"{_size(memory)}{of}", "")]
        if watts is not None:
            parts += [("  ", ""), (f"{watts:.0f} W", "")]
    line = cells(*parts)
    line.truncate(width)
    return line


def key_line(keys: Sequence[tuple[str, str]], width: int, palette: Palette) -> Text:
    """Keys with what they do, the most important first, as many as fit; the last one always stands."""
    line = Text(no_wrap=True, end="")
    if not keys:
        return line
    *others, last = keys
    room = width - len(last[0]) - len(last[1]) - 4
    for key, said in others:
        need = len(key) + len(said) + 3
        if need > room:
            break
        room -= need
        line.append(f" {key}", f"bold {palette.accent}")
        line.append(f" {said} ")
    line.append(f" {last[0]}", f"bold {palette.accent}")
    line.append(f" {last[1]} ")
    return line


def _size(size: float) -> str:
    for unit, step in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def tab_line(names: Sequence[tuple[str, str, bool]], words: str, width: int, palette: Palette) -> Text:
    """The screens with their keys, the one that is seen set off; the filter at the right."""
    line = Text(no_wrap=True, end="")
    for key, name, active in names:
        line.append(f" {key}", f"bold {palette.accent}" if not active else f"bold {palette.ground} on {palette.accent}")
        line.append(f" {name} ", f"bold {palette.ground} on {palette.accent}" if active else None)
        line.append(" ")
    if words:
        line.append(" /", palette.dim)
        line.append(words, f"bold {palette.unsure}")
    line.truncate(width)
    return line
