"""The tree of steps as rows: arms, seeds, rounds and steps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import attrs
from rich.text import Text

from tickdsl.results.formatting import format_duration
from tickdsl.results.searches import search_text
from tickdsl.results.state import FINISHED_STATUSES, StepState

from .formatting import format_seconds
from .glyphs import STATUS_GLYPHS, Palette, arm_marker
from .snapshot import Snapshot
from .step_outline import TreePath
from .text_cells import align_right, fit, fit_middle, styled_line

_MAX_OPEN_ARMS = 12  # up to this many arms are expanded if nothing is running


@attrs.frozen
class TreeRow:
    """A row; `note` is shown at its right end; `open` is None for a step, which has no children."""

    path: TreePath
    label: str
    status: str
    note: str
    arm_index: int
    open: bool | None = None


@attrs.frozen
class TreeExpansion:
    """The paths that the user expanded or collapsed; others are expanded if they contain a running or failed step."""

    expanded: frozenset[TreePath] = frozenset()
    collapsed: frozenset[TreePath] = frozenset()

    def with_expanded(self, path: TreePath, expand: bool) -> TreeExpansion:
        """A copy with `path` expanded or collapsed."""
        if expand:
            return TreeExpansion(self.expanded | {path}, self.collapsed - {path})
        return TreeExpansion(self.expanded - {path}, self.collapsed | {path})


def tree_rows(snapshot: Snapshot, expansion: TreeExpansion) -> list[TreeRow]:
    """The visible rows in plan order; with a filter, only the arms and steps that match it."""
    state, steps = snapshot.state, snapshot.state.steps
    active = {
        path[:depth]
        for name, step in steps.items()
        if step.status in ("running", "failed")
        for path in snapshot.outline.paths(name)
        for depth in (1, 2, 3)
    }
    if not active and len(snapshot.outline.arms) <= _MAX_OPEN_ARMS:
        active = {(arm,) for arm in snapshot.outline.arms}
    rows: list[TreeRow] = []
    for arm, seeds in snapshot.outline.arms.items():
        arm_matches = snapshot.matches_filter(arm)
        if (
            snapshot.filter_text
            and not arm_matches
            and not any(_matches_filter(snapshot, name) for name in snapshot.outline.steps((arm,)))
        ):
            continue
        path: TreePath = (arm,)
        rows.append(_group(snapshot, path, snapshot.arm_name(arm), _is_open(path, expansion, active)))
        if not rows[-1].open:
            continue
        for seed, levels in seeds.items():
            path = (arm, seed)
            rows.append(_group(snapshot, path, f"seed {seed}", _is_open(path, expansion, active)))
            if not rows[-1].open:
                continue
            for level, names in levels.items():
                path = (arm, seed, level)
                label = "dense" if level == 0 else f"round {level}"
                rows.append(_group(snapshot, path, label, _is_open(path, expansion, active)))
                if rows[-1].open:
                    rows += [
                        _step(snapshot, (*path, name), steps[name])
                        for name in names
                        if not snapshot.filter_text or arm_matches or _matches_filter(snapshot, name)
                    ]
    return rows if rows or not state.steps else []


def tree_line(row: TreeRow, width: int, palette: Palette) -> Text:
    """A row in `width` cells."""
    indent = " " * (len(row.path) - 1)
    fold = " " if row.open is None else "▾" if row.open else "▸"
    note = f" {row.note}" if row.note else ""
    colour = palette.arm(row.arm_index) if len(row.path) == 1 else palette.status(row.status)
    glyph = STATUS_GLYPHS.get(row.status, "○")
    label = f"{arm_marker(row.arm_index)} {row.label}" if len(row.path) == 1 else row.label
    room = width - len(indent) - 4 - len(note)
    weight = "bold" if len(row.path) == 1 else ""
    return styled_line(
        (f"{indent}{fold} ", palette.dim),
        (f"{glyph} ", palette.status(row.status)),
        (label[:1], f"{colour}") if len(row.path) == 1 else ("", ""),
        (fit_middle(label[1:], room - 1) if len(row.path) == 1 else fit(label, room), weight),
        (align_right(note, len(note)), palette.dim),
    )


def parent_of(path: TreePath) -> TreePath:
    """The path one level up; the parent of an arm is the arm itself."""
    return path[:-1] if len(path) > 1 else path


def failed_path(snapshot: Snapshot) -> TreePath | None:
    """The path of the step that failed last, if any."""
    failed = [step for step in snapshot.state.steps.values() if step.status == "failed"]
    if not failed:
        return None
    last = max(failed, key=lambda step: step.ended or 0.0)
    return next(iter(snapshot.outline.paths(last.info.id)), None)


def running_path(snapshot: Snapshot) -> TreePath | None:
    """The path of the running step that started last, if any."""
    running = [step for step in snapshot.state.steps.values() if step.status == "running"]
    if not running:
        return None
    last = max(running, key=lambda step: step.started or 0.0)
    return next(iter(snapshot.outline.paths(last.info.id)), None)


def _matches_filter(snapshot: Snapshot, name: str) -> bool:
    info = snapshot.state.steps[name].info
    label = f"{info.label} {snapshot.outline.label(info)}"
    return snapshot.matches_filter(f"{name} {info.operation} {label} seed {info.seed}")


def _is_open(path: TreePath, expansion: TreeExpansion, active: Collection[TreePath]) -> bool:
    return path in expansion.expanded or (path in active and path not in expansion.collapsed)


def _group(snapshot: Snapshot, path: TreePath, label: str, is_open: bool) -> TreeRow:
    steps = [snapshot.state.steps[name] for name in snapshot.outline.steps(path)]
    done = sum(step.status in FINISHED_STATUSES for step in steps)
    skipped = sum(step.status == "skipped" for step in steps)
    total = len(steps) - skipped
    return TreeRow(
        path=path,
        label=label,
        status=group_status(steps, snapshot.status),
        note=f"{done}/{total}" if total else "skipped",
        arm_index=snapshot.arm_indices.get(str(path[0]), 0),
        open=is_open,
    )


def group_status(steps: Iterable[StepState], run_status: str) -> str:
    """The combined status of steps, worst first; `run_status` is the status of the run."""
    statuses = {step.status for step in steps}
    if "failed" in statuses:
        return "failed"
    if "running" in statuses:
        return _run_status("running", run_status)
    if statuses <= {"skipped"}:
        return "skipped"
    if statuses <= {"stored", "skipped"}:
        return "stored"
    return "done" if statuses <= FINISHED_STATUSES | {"skipped"} else "waiting"


def _run_status(status: str, run_status: str) -> str:
    """The status of a step, taking into account that its run may be paused or over."""
    if status != "running":
        return status
    if run_status == "paused":
        return "paused"
    return status if run_status in ("running", "pausing", "stopping", "waiting") else "interrupted"


def _step(snapshot: Snapshot, path: TreePath, step: StepState) -> TreeRow:
    return TreeRow(
        path=path,
        label=snapshot.outline.label(step.info).removesuffix(f", round {path[2]}") or step.info.operation,
        status=_run_status(step.status, snapshot.status),
        note=_note(snapshot, step),
        arm_index=snapshot.arm_indices.get(str(path[0]), 0),
    )


def _note(snapshot: Snapshot, step: StepState) -> str:
    if step.status == "running" and not snapshot.is_live:
        return "interrupted"
    if step.status == "running":
        parts = [f"ep {step.epoch:g}/{step.epochs:g}"] if step.epoch is not None and step.epochs else []
        parts += [search_text(step.search)] if step.search is not None else []
        if step.started is not None:
            parts.append(format_duration(snapshot.clock_end - step.started))
        return " ".join(parts)
    if step.status == "done":
        return format_seconds(step.seconds) if step.seconds else ""
    return "" if step.status == "waiting" else step.status


def status_counts(snapshot: Snapshot) -> Iterator[tuple[str, int]]:
    """Yield (status, count) for each status that some step has; nothing runs once the run is over."""
    for status in ("running", "done", "stored", "waiting", "skipped", "failed"):
        if number := snapshot.state.count(status):
            yield _run_status(status, snapshot.status), number
