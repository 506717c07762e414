"""A study in the words of events: its steps by short names, its arms, its measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tickdsl.metrics.training_record import OF_A_TRAINING, told
from tickdsl.moments import Moment
from tickdsl.plan.lower import Measurement, Study
from tickdsl.plan.model import Measuring
from tickdsl.plan.steps import Step
from tickdsl.records import events


def step_names(study: Study) -> dict[str, str]:
    """A short name for each step: the first digits of its key, as many as tell all apart."""
    length = 8
    while len({key[:length] for key in study.graph}) < len(study.graph):
        length += 1
    return {key: key[:length] for key in study.graph}


def resolved(study: Study, stored: Callable[[str], bool], notes: tuple[str, ...] = ()) -> events.PlanResolved:
    """The study as the event that opens a run."""
    names = step_names(study)
    last = {arm.id: 0 for arm in study.plan.arms}
    for level in study.levels:
        last[level.arm] = max(last[level.arm], level.level)
    steps = []
    for key, node in study.graph.nodes(data=True):
        step: Step = node["step"]
        steps.append(
            events.StepInfo(
                id=names[key],
                key=key,
                operation=step.operation,
                label=node["label"],
                arms=tuple(dict.fromkeys(arm for arm, _ in node["uses"])),
                seed=step.seed,
                epochs=epochs(step),
                parents=tuple(names[parent] for parent in step.parents.values()),
                stored=stored(key),
            )
        )
    return events.PlanResolved(
        arms=tuple(
            events.ArmInfo(id=arm.id, name=arm.name, sweep=dict(arm.sweep), levels=last[arm.id])
            for arm in study.plan.arms
        ),
        contestants=("ticket", "dense", *(rival for rival in study.plan.rivals if rival != "dense")),
        seeds=study.plan.seeds,
        steps=tuple(steps),
        measurements=tuple(_info(m, names) for m in study.measurements if not m.asks),
        asked=tuple(_info(m, names) for m in study.measurements if m.asks),
        notes=notes,
        within=float(study.plan.within),
        report=study.plan.metrics,
    )


def _info(m: Measurement, names: Mapping[str, str]) -> events.MeasurementInfo:
    return events.MeasurementInfo(arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, step=names[m.step])


def metric(m: Measurement, found: Mapping[str, Any], name: str) -> events.Metric:
    """A measurement as an event; `found` are its step's metrics, `name` is its step's."""
    return events.Metric(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=name,
        accuracy=found.get("accuracy"),
        loss=found.get("loss"),
        sparsity=found.get("sparsity"),
        params=found.get("params"),
        macs=found.get("macs"),
        filters=found.get("filters"),
        seconds=found.get("train_time"),
        best_accuracy=found.get("best_accuracy"),
        best_epoch=found.get("best_epoch"),
    )


def measure(m: Measurement, record: Mapping[str, Any], name: str, measuring: Measuring) -> events.Measure | None:
    """What `report` asks beside accuracy as an event; `record` is that of the step `name` that tells it.

    None where the step does not tell it after all.
    """
    if m.asks in OF_A_TRAINING:
        found = told(m.asks, record, measuring)
    else:
        found = record["metrics"]["figures"], record["metrics"]["how"]
    if found is None:
        return None
    figures, how = found
    return events.Measure(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=name,
        metric=m.asks,
        figures=figures,
        how=how,
        host=record["made"]["host"],
    )


def layers(m: Measurement, left: Mapping[str, Mapping[str, int]]) -> events.Layers:
    """What is left of the layers where a measurement was made."""
    return events.Layers(arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, **left)


def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics without the course of the training: what is kept in memory and said in events."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def epochs(step: Step) -> float | None:
    """How many epochs a training takes, where its recipe counts in epochs."""
    if step.operation != "train" or "budget" in step.args:
        return None
    length = Moment.parse(step.args["recipe"]["length"])
    moments = [Moment.parse(step.args[name]) for name in ("start", "stop") if name in step.args]
    if any(moment.unit != "ep" for moment in (length, *moments)):
        return None
    start = Moment.parse(step.args.get("start", "0ep")).amount
    stop = Moment.parse(step.args["stop"]).amount if "stop" in step.args else length.amount
    return float(stop - start)
