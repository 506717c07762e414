"""Runs with tickets of small-cnn on digits, written without training anything."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from finished_runs import RUN

from tickdsl.engine.dense_networks import dense_network
from tickdsl.engine.steps.result_files import STRUCTURE
from tickdsl.graph import Structure
from tickdsl.records import EventWriter, Store
from tickdsl.records.canonical import canonical_json
from tickdsl.records.events import ArmInfo, MeasurementInfo, Metric, PlanResolved, StepInfo


def ticket_of(
    arm: str, seed: int, level: int, *, width: float = 1, channels: int = 1, units: bool = False
) -> Structure:
    """The structure of a ticket of a written run: half of the weights, or without the first two filters."""
    graph = dense_network("small-cnn", canonical_json({"width": width}), 10, (channels, 8, 8)).graph
    if units:
        return Structure.dense(graph).remove("conv1", np.arange(2))
    rng = np.random.default_rng([seed, level, *arm.encode()])
    return Structure.dense(graph).with_masks({name: rng.random(graph.parameters[name]) < 0.5 for name in graph.weights})


def written_run(
    folder: Path,
    name: str = "lth",
    *,
    arms: Sequence[str] = ("a",),
    seeds: Sequence[int] = (1, 2, 3),
    levels: int = 2,
    width: float = 1,
    channels: int = 1,
    units: bool = False,
    stored: bool = True,
) -> None:
    """Write the run `folder`/runs/`name`, whose results are in `folder`/store.

    width, channels: of the network, and of its images. units: its tickets have lost filters, not weights. stored:
    whether the results are there.
    """
    store, run = Store(folder / "store"), folder / "runs" / name
    store.prepare_writing()
    run.mkdir(parents=True)
    tickets = list(itertools.product(arms, seeds, range(1, levels + 1)))
    steps: list[StepInfo] = []
    for number, (arm, seed, level) in enumerate(tickets):
        keys = [
            hashlib.sha256(f"{name} {what} {arm} {seed} {level}".encode()).hexdigest() for what in ("prune", "train")
        ]
        steps.append(StepInfo(id=f"p{number}", key=keys[0], operation="prune", label="prune", arms=(arm,)))
        steps.append(
            StepInfo(
                id=f"t{number}",
                key=keys[1],
                operation="train",
                label="train",
                arms=(arm,),
                seed=seed,
                parents=(f"p{number}",),
                roles=("structure",),
            )
        )
        if stored:
            with store.writing(keys[0]) as draft:
                ticket = ticket_of(arm, seed, level, width=width, channels=channels, units=units)
                ticket.save(draft.folder / STRUCTURE)
                draft.finish({"operation": "prune", "parts": {}, "metrics": {}, "seconds": 0.0, "made": {}})
    with EventWriter(run / "events.jsonl") as events:
        events.write(
            attrs.evolve(RUN, run=name, plan="x", path="x.plan", argv=(), versions={}, store=str(folder / "store"))
        )
        events.write(
            PlanResolved(
                arms=tuple(ArmInfo(id=arm, name=arm, sweep={}, levels=levels) for arm in arms),
                contestants=("ticket", "dense"),
                seeds=tuple(seeds),
                steps=tuple(steps),
                measurements=tuple(
                    MeasurementInfo(arm=arm, contestant="ticket", level=level, seed=seed, step=f"t{number}")
                    for number, (arm, seed, level) in enumerate(tickets)
                ),
            )
        )
        for number, (arm, seed, level) in enumerate(tickets):
            events.write(Metric(arm=arm, contestant="ticket", level=level, seed=seed, step=f"t{number}", accuracy=0.9))
