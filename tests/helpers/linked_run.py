"""A run whose arms take the mask of another seed, as it is or aligned: events with made-up measurements."""

from __future__ import annotations

import functools
from pathlib import Path

from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.lower import lower
from tickdsl.records import EventRecord, EventWriter, RunPaths, new_run, read_events
from tickdsl.records import events as e

LINKED_PLAN = """model small-cnn on digits
train 6ep lr=0.1
seeds 3
arm own { prune weights 50%; rewind lr }
arm naive { prune weights 50%; rewind mask of next seed; rewind weights to 1ep }  # ok TD549
arm by-weights { prune weights 50%; rewind mask of next seed align=dense; rewind weights to 1ep }  # ok TD549
arm by-activations {
    prune weights 50%; rewind mask of next seed align=dense match=activations; rewind weights to 1ep  # ok TD549
}
compare all, dense within=1%
"""
IN_TURN = "takes the mask of the next seed (1 from 2, 2 from 3, 3 from 1"
#: What the seeds of each arm take.
TAKEN = {
    "naive": f"{IN_TURN})",
    "by-weights": f"{IN_TURN}; aligned by the weights of the dense networks)",
    "by-activations": f"{IN_TURN}; aligned by the activations of the dense networks)",
}


@functools.cache
def linked_plan_resolved() -> e.PlanResolved:
    """The plan as an event: with the arms, steps and labels of a run."""
    plan = resolve(load_source(Source("linked.plan", LINKED_PLAN))).plan
    assert plan is not None
    study = lower(plan, fingerprint=lambda data: "f" * 64, rounds=lambda arm, prune: 1)
    return plan_resolved_event(study, lambda key: False)


def write_linked_run(out: Path, name: str = "linked") -> RunPaths:
    """Write the folder of the finished run."""
    plan = linked_plan_resolved()
    paths = new_run(out, name, token="0000")
    paths.plan.write_text(LINKED_PLAN)
    clock = iter(range(1_790_000_000, 1_799_000_000))
    with EventWriter(paths.events, clock=lambda: float(next(clock))) as writer:
        writer.write(
            e.RunStart(
                run=paths.folder.name, plan="linked", path="linked.plan", argv=("tickdsl", "run", "linked.plan"), pid=1,
                host="elsewhere", boot="b", versions={"tickdsl": "0.1.0"}, jobs=1, device="cpu", store=".tick/store",
            )
        )  # fmt: skip
        writer.write(plan)
        for step in plan.steps:
            writer.write(e.StepStart(step=step.id))
            writer.write(e.StepEnd(step=step.id, status="done", seconds=1.0))
            for m in (m for m in plan.measurements if m.step == step.id):
                writer.write(
                    e.Metric(
                        arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, step=m.step,
                        accuracy=0.95 + 0.001 * m.seed, sparsity=0.5 * (m.level > 0), params=5082, macs=83264,
                    )
                )  # fmt: skip
        writer.write(e.RunEnd(status="ok", seconds=120.0, exit=0))
    return paths


def linked_events(out: Path) -> list[EventRecord]:
    """The events of the finished run."""
    return list(read_events(write_linked_run(out).events))
