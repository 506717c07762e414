"""Masks of the tickets of stored runs, for `rewind mask of run "NAME"`. Finding one needs no torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.graph.model import ModelGraph
from tickdsl.graph.structure import STRUCTURE_FILE, Structure, StructureError
from tickdsl.plan.model import MaskOf
from tickdsl.plurals import plural
from tickdsl.pruning.transfer import transfer_structure
from tickdsl.records import Store
from tickdsl.records.events import Metric, PlanResolved, RunStart
from tickdsl.records.paths import RunPaths, find_run
from tickdsl.records.run_events import read_run_events

#: Where runs are looked for by name.
RUNS = Path("runs")


class RunMaskError(TickdslError):
    """A mask of a run that cannot be taken; `code` is that of the finding about it."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code


@attrs.frozen
class StoredMask:
    """The ticket of a run that a mask is taken from.

    key: the step that holds its structure, in the results of `store`.
    """

    run: str
    arm: str
    level: int
    seed: int
    key: str
    store: Path

    @property
    def argument(self) -> dict[str, Any]:
        """The argument of the step that takes it; where its results are is no part of that step's key."""
        return {"fingerprint": self.key, "options": {"store": str(self.store)}}


@attrs.frozen
class _Tickets:
    """The tickets of a run that were measured. structures: by arm id, seed and level, the step of the structure."""

    paths: RunPaths
    store: Path
    names: Mapping[str, str]
    structures: Mapping[tuple[str, int, int], str]


def find_mask(wanted: MaskOf, level: int | None = None, seed: int | None = None, runs: Path = RUNS) -> StoredMask:
    """The mask that a statement takes from a run.

    level, seed: those of the plan, for what the statement leaves open; any if they are None. runs: the folder of runs.
    Raises RunMaskError: TD465 if there is no such run, TD481 if the run has not the ticket, or several.
    """
    tickets = _tickets(wanted.run, runs)
    arm = _arm(wanted, tickets)
    seeds = sorted({each for of_arm, each, _ in tickets.structures if of_arm == arm})
    chosen = _seed(wanted, seed, seeds, arm)
    levels = sorted(each for of_arm, of_seed, each in tickets.structures if (of_arm, of_seed) == (arm, chosen))
    number = wanted.level if wanted.level is not None else min(level or levels[-1], levels[-1])
    if number not in levels:
        raise RunMaskError(
            "TD481", f"arm {arm} of run {tickets.paths.folder.name} has no level {number} under seed {chosen}",
            f"it has levels {levels[0]} to {levels[-1]}",
        )  # fmt: skip
    key = tickets.structures[arm, chosen, number]
    return StoredMask(tickets.paths.folder.name, arm, number, chosen, key, tickets.store)


def load_mask(argument: Mapping[str, Any], own: Store | None, graph: ModelGraph) -> Structure:
    """The structure that the argument of a step names, on the graph of another network.

    own: the results of the plan, if there are any, which are looked in first.
    Raises RunMaskError: TD482 if it is no longer stored, TD466 if it does not fit the network.
    """
    key, folder = str(argument["fingerprint"]), Path(str(argument["options"]["store"]))
    store = own if own is not None and key in own else Store(folder) if folder.is_dir() else None
    if store is None or key not in store:
        raise RunMaskError(
            "TD482", f"the mask {key[:8]} is no longer among the results in {folder}",
            "run that plan again with the same `--store`, which computes it again",
        )  # fmt: skip
    structure = Structure.load(store.get(key).folder / STRUCTURE_FILE)
    theirs, ours = structure.extent.shapes, graph.parameters
    for name in structure.masks:
        if theirs.get(name) != ours.get(name):
            there, here = (_shape(shapes.get(name)) for shapes in (theirs, ours))
            raise RunMaskError(
                "TD466", f"the mask is one of another network: `{name}` is {there} there, and {here} here",
                "use the model and the data of that run",
            )  # fmt: skip
    try:
        return transfer_structure(structure, graph)
    except StructureError as error:
        raise RunMaskError("TD466", f"the mask is one of another network: {error.message}") from error


def _shape(sizes: tuple[int, ...] | None) -> str:
    return "missing" if sizes is None else "×".join(map(str, sizes))


def _arm(wanted: MaskOf, tickets: _Tickets) -> str:
    """The id of the arm that is wanted; without a name, of the only one with tickets."""
    arms = sorted({arm for arm, _, _ in tickets.structures})
    run = tickets.paths.folder.name
    if not arms:
        raise RunMaskError("TD481", f"run {run} has no ticket yet", "wait until its first level is measured")
    fitting = [arm for arm in arms if wanted.arm in ("", arm, tickets.names.get(arm))]
    if len(fitting) == 1:
        return fitting[0]
    what = f"several arms: {', '.join(fitting)}" if fitting else f"no arm {wanted.arm}, but {', '.join(arms)}"
    raise RunMaskError("TD481", f"run {run} has {what}", f'name one, e.g. `arm="{(fitting or arms)[0]}"`')


def _seed(wanted: MaskOf, seed: int | None, seeds: list[int], arm: str) -> int:
    """The seed of the run that is wanted: as written, that of the plan, or the only one."""
    asked = wanted.seed if wanted.seed is not None else seed
    if asked is None or (wanted.seed is None and len(seeds) == 1):
        return seeds[0]
    if asked not in seeds:
        known = f"{plural(len(seeds), 'seed')}: {', '.join(map(str, seeds))}"
        raise RunMaskError(
            "TD481", f"arm {arm} of the run has no ticket of seed {asked}, but {known}", f"name one: `seed={seeds[0]}`"
        )
    return asked


def _tickets(run: str, runs: Path) -> _Tickets:
    if run == "latest":
        hint = "name its folder; `tickdsl ls` lists them"
        raise RunMaskError("TD465", "`latest` is another run each time a plan runs", hint)
    try:
        paths = find_run(runs, run)
        state = tuple(sorted((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in _event_files(paths)))
        return _read(paths, state)
    except RunMaskError:
        raise
    except (TickdslError, OSError) as error:
        message = error.message if isinstance(error, TickdslError) else str(error)
        hint = f'runs are looked for in `{runs}/`; a path is found from anywhere: `of run "other/runs/NAME"`'
        raise RunMaskError("TD465", message, hint) from error


def _event_files(paths: RunPaths) -> list[Path]:
    return [paths.events, *paths.folder.glob("workers/*/events.jsonl")] if paths.events.exists() else []


@functools.lru_cache(maxsize=16)
def _read(paths: RunPaths, state: tuple[tuple[str, int, int], ...]) -> _Tickets:
    """The tickets of a run; `state` is what changes with its events."""
    started: RunStart | None = None
    plan: PlanResolved | None = None
    measured: list[Metric] = []
    for record in read_run_events(paths):
        match record.event:
            case RunStart():
                started = record.event
            case PlanResolved():
                plan = record.event
            case Metric(contestant="ticket"):
                measured.append(record.event)
    if started is None or plan is None:
        raise RunMaskError("TD465", f"{paths.folder} holds no run that has started", "wait for it, or name another")
    steps = {step.id: step for step in plan.steps}
    structures: dict[tuple[str, int, int], str] = {}
    for event in measured:
        step = steps.get(event.step)
        if step is None:
            continue  # of an earlier plan in this folder
        parents = dict(zip(step.roles, step.parents, strict=True))
        holder = step if step.own_structure else steps.get(parents.get("structure", ""))
        if holder is not None:
            structures[event.arm, event.seed, event.level] = holder.key
    names = {arm.id: arm.name for arm in plan.arms}
    return _Tickets(paths, Path(started.store), names, structures)
