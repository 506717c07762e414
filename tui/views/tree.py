"""The tree of steps as rows: arms, seeds, rounds, steps, as far as they are open."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import attrs
from rich.text import Text

from tickdsl.results.state import FINISHED, RunState, StepState
from tickdsl.results.words import duration

from .figures import took
from .glance import Glance
from .line import cells, fit, right
from .marks import STATUS, Palette, marker
from .outline import Path

_FEW = 12  # arms that are shown open when nothing runs


@attrs.frozen
class TreeRow:
    """A row: `note` stands at its right end; `open` is None for a step, which has nothing below it."""

    path: Path
    label: str
    status: str
    note: str
    place: int
    open: bool | None = None


@attrs.frozen
class Folding:
    """Which paths a person opened or closed; all others are open where something runs or failed in them."""

    opened: frozenset[Path] = frozenset()
    closed: frozenset[Path] = frozenset()

    def toggle(self, path: Path, to: bool) -> Folding:
        """With `path` open or closed, whatever it was."""
        if to:
            return Folding(self.opened | {path}, self.closed - {path})
        return Folding(self.opened - {path}, self.closed | {path})


def tree_rows(glance: Glance, folding: Folding) -> list[TreeRow]:
    """The visible rows, in the order of the plan. With a filter, arms and steps that match it, opened."""
    state, steps = glance.state, glance.state.steps
    alive = {
        path[:depth]
        for name, step in steps.items()
        if step.status in ("running", "failed")
        for path in glance.outline.paths(name)
        for depth in (1, 2, 3)
    }
    if not alive and len(glance.outline.arms) <= _FEW:
        alive = {(arm,) for arm in glance.outline.arms}
    rows: list[TreeRow] = []
    for arm, seeds in glance.outline.arms.items():
        named = glance.wants(arm)
        if glance.words and not named and not any(_wanted(glance, name) for name in glance.outline.steps((arm,))):
            continue
        path: Path = (arm,)
        rows.append(_group(glance, path, arm, _open(path, folding, alive)))
        if not rows[-1].open:
            continue
        for seed, levels in seeds.items():
            path = (arm, seed)
            rows.append(_group(glance, path, f"seed {seed}", _open(path, folding, alive)))
            if not rows[-1].open:
                continue
            for level, names in levels.items():
                path = (arm, seed, level)
                label = "dense" if level == 0 else f"round {level}"
                rows.append(_group(glance, path, label, _open(path, folding, alive)))
                if rows[-1].open:
                    rows += [
                        _step(glance, (*path, name), steps[name])
                        for name in names
                        if not glance.words or named or _wanted(glance, name)
                    ]
    return rows if rows or not state.steps else []


def tree_line(row: TreeRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells."""
    indent = " " * (len(row.path) - 1)
    fold = " " if row.open is None else "▾" if row.open else "▸"
    note = f" {row.note}" if row.note else ""
    colour = palette.arm(row.place) if len(row.path) == 1 else palette.status(row.status)
    sign = STATUS.get(row.status, "○")
    label = f"{marker(row.place)} {row.label}" if len(row.path) == 1 else row.label
    room = width - len(indent) - 4 - len(note)
    strong = "bold" if len(row.path) == 1 else ""
    return cells(
        (f"{indent}{fold} ", palette.dim),
        (f"{sign} ", palette.status(row.status)),
        (label[:1], f"{colour}") if len(row.path) == 1 else ("", ""),
        (fit(label[1:] if len(row.path) == 1 else label, room - (len(row.path) == 1)), strong),
        (right(note, len(note)), palette.dim),
    )


def parent_of(path: Path) -> Path:
    """The path one level up; that of an arm is itself."""
    return path[:-1] if len(path) > 1 else path


def failed_path(glance: Glance) -> Path | None:
    """Where the step stands that failed last."""
    failed = [step for step in glance.state.steps.values() if step.status == "failed"]
    if not failed:
        return None
    last = max(failed, key=lambda step: step.ended or 0.0)
    return next(iter(glance.outline.paths(last.info.id)), None)


def running_path(glance: Glance) -> Path | None:
    """Where the step stands that began last of those that run."""
    running = [step for step in glance.state.steps.values() if step.status == "running"]
    if not running:
        return None
    last = max(running, key=lambda step: step.started or 0.0)
    return next(iter(glance.outline.paths(last.info.id)), None)


def _wanted(glance: Glance, name: str) -> bool:
    info = glance.state.steps[name].info
    return glance.wants(f"{name} {info.operation} {info.label} seed {info.seed}")


def _open(path: Path, folding: Folding, alive: Collection[Path]) -> bool:
    return path in folding.opened or (path in alive and path not in folding.closed)


def _group(glance: Glance, path: Path, label: str, opened: bool) -> TreeRow:
    found = [glance.state.steps[name] for name in glance.outline.steps(path)]
    done = sum(step.status in FINISHED for step in found)
    skipped = sum(step.status == "skipped" for step in found)
    total = len(found) - skipped
    return TreeRow(
        path=path,
        label=label,
        status=group_status(found, glance.status),
        note=f"{done}/{total}" if total else "skipped",
        place=glance.places.get(str(path[0]), 0),
        open=opened,
    )


def group_status(steps: Iterable[StepState], run: str) -> str:
    """The status of steps taken together: the worst news first; `run` is the status of the run."""
    found = {step.status for step in steps}
    if "failed" in found:
        return "failed"
    if "running" in found:
        return _run_status("running", run)
    if found <= {"skipped"}:
        return "skipped"
    if found <= {"stored", "skipped"}:
        return "stored"
    return "done" if found <= FINISHED | {"skipped"} else "waiting"


def _run_status(status: str, run: str) -> str:
    """A step is only as alive as its run."""
    if status != "running":
        return status
    if run == "paused":
        return "paused"
    return status if run in ("running", "pausing", "stopping", "waiting") else "interrupted"


def _step(glance: Glance, path: Path, step: StepState) -> TreeRow:
    return TreeRow(
        path=path,
        label=step.info.label or step.info.operation,
        status=_run_status(step.status, glance.status),
        note=_note(glance, step),
        place=glance.places.get(str(path[0]), 0),
    )


def _note(glance: Glance, step: StepState) -> str:
    if step.status == "running":
        parts = [f"ep {step.epoch:g}/{step.epochs:g}"] if step.epoch is not None and step.epochs else []
        if step.started is not None:
            parts.append(duration(glance.until - step.started))
        return " ".join(parts)
    if step.status == "done":
        return took(step.seconds) if step.seconds else ""
    return "" if step.status == "waiting" else step.status


def counted(state: RunState) -> Iterator[tuple[str, int]]:
    """The statuses of the steps with how many have each, those that none has left out."""
    for status in ("running", "done", "stored", "waiting", "skipped", "failed"):
        if number := state.count(status):
            yield status, number
