"""Build events from the steps and measurements of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from tickdsl.engine.scheduler.forecast import epochs, steps_to_run
from tickdsl.engine.scheduler.known_tasks import known_task
from tickdsl.lang.vocabulary import is_test_result
from tickdsl.lang.writing.unparse import condition as condition_text
from tickdsl.metrics.training_metrics import TRAINING_METRICS, training_figures
from tickdsl.plan.linked_seeds import linked, takes
from tickdsl.plan.model import Arm, MeasurementOptions, ToCost
from tickdsl.plan.step_builder import DEFAULT_TASK
from tickdsl.plan.steps import Step, changes_masks
from tickdsl.plan.study import Measurement, Study
from tickdsl.records import events
from tickdsl.training.catalogue import holds_out_validation, noun
from tickdsl.training.catalogue.tasks import TaskInfo

if TYPE_CHECKING:
    from tickdsl.training.tasks import Task


def short_step_names(study: Study) -> dict[str, str]:
    """A short name for each step: the first digits of its key, at least 8, as many as make the names unique."""
    length = 8
    while len({key[:length] for key in study.graph}) < len(study.graph):
        length += 1
    return {key: key[:length] for key in study.graph}


def plan_resolved_event(
    study: Study,
    stored: Callable[[str], bool],
    notes: tuple[str, ...] = (),
    metrics: Callable[[str], Mapping[str, Any] | None] = lambda key: None,
) -> events.PlanResolved:
    """The study as an event; `stored` and `metrics` are those of `steps_to_run`."""
    names, test_data = short_step_names(study), _test_data(study)
    nouns = {arm.id: noun(arm.judged_on.name) for arm in study.plan.arms}
    to_run = steps_to_run(study, stored, metrics)
    last_level = {arm.id: 0 for arm in study.plan.arms}
    for level in study.levels:
        last_level[level.arm] = max(last_level[level.arm], level.level)
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
                expected=key in to_run,
                roles=tuple(step.parents),
                own_structure=changes_masks(step.operation, step.args),
            )
        )
    return events.PlanResolved(
        arms=tuple(
            events.ArmInfo(
                id=arm.id,
                name=arm.name,
                sweep=dict(arm.sweep),
                levels=last_level[arm.id],
                target=_target(arm),
                units=tuple(dict.fromkeys(group.prune.unit for group in arm.rounds)),
                linked=takes(arm, study.plan.seeds),
            )
            for arm in study.plan.arms
        ),
        contestants=("ticket", "dense", *(control for control in study.plan.rivals if control != "dense")),
        seeds=study.plan.seeds,
        steps=tuple(steps),
        measurements=tuple(_measurement_info(m, names) for m in study.measurements if not m.report_metric),
        asked=tuple(_measurement_info(m, names) for m in study.measurements if m.report_metric),
        notes=(*notes, *filter(None, (linked(arm, study.plan.seeds) for arm in study.plan.arms))),
        open_ended=bool(study.plan.stops) or any(level.ends is not None for level in study.levels),
        within=float(study.plan.within),
        matched_by=study.plan.matched_by,
        report=(*study.plan.metrics, *map(str, study.plan.lines)),
        stops=_stops_on_results(study),
        data={arm: spec["fingerprint"] for arm, spec in test_data.items() if "fingerprint" in spec},
        metric=study.plan.metric,
        tasks={
            arm: task_info(known_task(spec.get("task", DEFAULT_TASK)), nouns[arm]) for arm, spec in test_data.items()
        },
    )


#: The units of which measurements say what is left, besides filters.
UNITS_LEFT = ("neurons", "heads", "head-dims", "layers")


def _target(arm: Arm) -> dict[str, float]:
    """The target of an arm's last prune in FLOPs or parameters, if it has one."""
    amount = arm.rounds[-1].prune.amount if arm.rounds else None
    return {amount.cost: float(amount.share)} if isinstance(amount, ToCost) else {}


def _test_data(study: Study) -> dict[str, Mapping[str, Any]]:
    """What the steps say of the data that each arm is tested on, by arm id."""
    dense = (m for m in study.measurements if m.contestant == "dense" and not m.report_metric)
    return {m.arm: study.step(m.step).args.get("data") or {} for m in dense}


def task_info(task: Task | TaskInfo, sample: str = "image") -> events.TaskInfo:
    """What readers of a run need to know of a task; `sample`: what its inputs are called."""
    return events.TaskInfo(
        name=task.name,
        metrics=tuple(events.MetricInfo(**attrs.asdict(metric)) for metric in task.metrics),
        sample=sample,
    )


def _stops_on_results(study: Study) -> tuple[str, ...]:
    """The conditions on test results that end a seed of an arm early, as text."""
    judged_on = (arm.judged_on for arm in study.plan.arms)
    if all(holds_out_validation(data.name, data.options) for data in judged_on):
        return ()
    conditions = [*study.plan.stops, *(level.ends for level in study.levels if level.ends is not None)]
    texts = (condition_text(condition) for condition in conditions if is_test_result(condition.metric))
    return tuple(dict.fromkeys(texts))


def _measurement_info(m: Measurement, names: Mapping[str, str]) -> events.MeasurementInfo:
    return events.MeasurementInfo(arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, step=names[m.step])


def measurement_events(
    m: Measurement, record: Mapping[str, Any], step_name: str, measuring: MeasurementOptions
) -> Iterator[events.Event]:
    """A measurement as events; `record` is the record of the result of its step."""
    if m.report_metric:
        event = measure_event(m, record, step_name, measuring)
        if event is not None:
            yield event
        return
    yield metric_event(m, record["metrics"], step_name)
    remaining = record["metrics"].get("left")
    if remaining and any(remaining.values()):
        yield layers_event(m, remaining)


def metric_event(m: Measurement, metrics: Mapping[str, Any], step_name: str) -> events.Metric:
    """A measurement as an event, with the metrics and the short name of its step."""
    return events.Metric(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=step_name,
        accuracy=metrics.get("accuracy"),
        loss=metrics.get("loss"),
        sparsity=metrics.get("sparsity"),
        params=metrics.get("params"),
        macs=metrics.get("macs"),
        filters=metrics.get("filters"),
        seconds=metrics.get("train_time"),
        best_accuracy=metrics.get("best_accuracy"),
        best_epoch=metrics.get("best_epoch"),
        test_images=metrics.get("test_images"),
        chance=metrics.get("chance"),
        correct=metrics.get("correct"),
        not_finite=tuple(metrics.get("not_finite", ())),
        score=metrics.get("score"),
        metric=metrics.get("metric"),
        best_score=metrics.get("best_score"),
        figures=metrics.get("figures", {}),
        validation=metrics.get("validation", {}),
        best_validation=metrics.get("best_validation"),
        units={unit: metrics[unit] for unit in UNITS_LEFT if unit in metrics},
    )


def measure_event(
    m: Measurement, record: Mapping[str, Any], step_name: str, measuring: MeasurementOptions
) -> events.Measure | None:
    """A measurement of another metric than accuracy as an event; `record` is the record of the result of its step.

    None if the result does not have this metric.
    """
    if m.report_metric in TRAINING_METRICS:
        measured = training_figures(m.report_metric, record, measuring)
    else:
        measured = record["metrics"]["figures"], record["metrics"]["how"]
    if measured is None or not measured[0]:
        return None
    figures, how = measured
    if m.line:  # its figures have its name, so that several lines of a network stay apart
        metric = m.report_metric.partition(" ")[0]
        figures = {f"{m.report_metric}{name.removeprefix(metric)}": value for name, value in figures.items()}
    return events.Measure(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=step_name,
        metric=m.report_metric,
        figures=figures,
        how=how,
        host=record["made"]["host"],
    )


def layers_event(m: Measurement, remaining: Mapping[str, Mapping[str, int]]) -> events.Layers:
    """What is left of the layers of a measured network, as an event."""
    return events.Layers(arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, **remaining)


def scalar_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that are numbers, without the history of the training."""
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def tested_figures(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """The figures of the task on the test set and on the validation set, as far as there are any."""
    return {name: dict(metrics[name]) for name in ("figures", "validation") if metrics.get(name)}
