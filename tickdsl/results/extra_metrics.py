"""Metrics named in `report`, but the compared one: means over seeds, measured or estimated, and their columns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import attrs

from tickdsl.plurals import plural
from tickdsl.records.events import CLASSIFY, ESTIMATED, MEASURED, MetricInfo, TaskInfo
from tickdsl.results import formatting, scores
from tickdsl.results.estimates import Estimate, estimate
from tickdsl.results.state import RunState

NetworkKey = tuple[str, str, int]  # arm id, contestant, level


@attrs.frozen
class MeasuredValue:
    """A value over seeds; `how` is `measured`, or `estimated` if it is estimated for any seed."""

    value: Estimate
    how: str


class Column(NamedTuple):
    """A table column: the name of the value, the heading (lines separated by newlines), and the cell format.

    In `_COLUMNS`, a heading has `{sample}` for what an input is called.
    """

    figure_name: str
    heading: str
    format_value: Callable[[float], str]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


_seconds = functools.partial(formatting.quantity, unit="s")
_bytes = functools.partial(formatting.quantity, unit="B")

#: Metric of `report` -> its table columns; those of `_score_columns` depend on the task.
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "robustness": (
        Column("robustness", "corrupted\n%", _percent),
        Column("robustness.fgsm", "FGSM\n%", _percent),
        Column("robustness.pgd", "PGD\n%", _percent),
        Column("robustness.cifar-10-c", "CIFAR-10-C\n%", _percent),
        Column("robustness.cifar-10.2", "CIFAR-10.2\n%", _percent),
    ),
    "train-time": (Column("train-time.step", "step\ntime", _seconds),),
    "train-flops": (Column("train-flops", "training\nMACs", formatting.count),),
    "latency": (
        Column("latency", "latency,\n1 {sample}", _seconds),
        Column("latency.batch", "latency,\n1 batch", _seconds),
    ),
    "memory": (
        Column("memory", "memory,\ninference", _bytes),
        Column("memory.training", "memory,\ntraining", _bytes),
    ),
    "energy": (Column("energy", "training\nenergy", functools.partial(formatting.quantity, unit="J")),),
    "carbon": (Column("carbon", "training\nCO2", functools.partial(formatting.quantity, unit="g")),),
    "early-stop": (),
    "data": (
        Column("data", "data,\nmemory", _bytes),
        Column("data.wait", "data,\nwaited %", _percent),
    ),
    "fid": (Column("fid", "FID", lambda distance: f"{distance:.4g}"),),
    "distance": (
        Column("distance", "distance,\nfrom init", lambda distance: f"{distance:.3f}"),
        Column("distance.seeds", "distance,\nnext seed", lambda distance: f"{distance:.3f}"),
    ),
    "sign-agreement": (
        Column("sign-agreement", "same sign,\nas init %", _percent),
        Column("sign-agreement.seeds", "same sign,\nnext seed %", _percent),
    ),
    "mask-overlap": (
        Column("mask-overlap", "mask overlap,\nnext seed %", _percent),
        Column("mask-overlap.chance", "mask overlap,\nby chance %", _percent),
    ),
    "pruned": (),
    "barrier": (),
    "ensemble": (),
}
#: How the figures of a barrier between two networks begin.
_LINE = "barrier of "
#: The metrics of `report` that have columns here.
KNOWN = tuple(_COLUMNS)


def _score_columns(primary: MetricInfo) -> dict[str, tuple[Column, ...]]:
    """The columns whose values are scores; primary: the primary metric of the arm's task."""

    def shown(value: float) -> str:
        return scores.score(primary, Estimate(1, value, None))

    heading = scores.heading(primary)
    barrier = "\n".join(filter(None, ("barrier,", scores.difference_unit(primary) or scores.label(primary))))
    return {
        "early-stop": (
            Column("early-stop", "early stop,\nepoch", lambda epoch: f"{epoch:.1f}".removesuffix(".0")),
            Column("early-stop.iteration", "early stop,\niteration", lambda step: f"{step:,.0f}"),
            Column(f"early-stop.{primary.name}", f"early stop,\n{heading}", shown),
            Column("early-stop.validation", f"early stop, on\nvalidation: {heading}", shown),
        ),
        "pruned": (
            Column("pruned", f"just pruned,\n{heading}", shown),
            Column("pruned.validation", f"just pruned, on\nvalidation: {heading}", shown),
        ),
        "ensemble": (Column("ensemble", f"ensemble,\n{heading}", shown),),
        "barrier": (
            Column("barrier", barrier, shown),
            Column("barrier.interpolated", "barrier, BN\ninterpolated", shown),
        ),
    }


#: Metrics whose values depend on the machine.
_MACHINE_DEPENDENT = ("train-time", "latency", "memory", "energy", "carbon", "data")


def measured_values(state: RunState) -> dict[NetworkKey, dict[str, MeasuredValue]]:
    """All numeric values by (arm id, contestant, level) and name, averaged over seeds."""
    values: dict[NetworkKey, dict[str, dict[int, float]]] = {}
    estimated: set[tuple[NetworkKey, str]] = set()
    for ((arm, contestant, level, seed), _), measure in state.measures.items():
        key = (arm, contestant, level)
        for name, value in measure.figures.items():
            if isinstance(value, int | float):
                values.setdefault(key, {}).setdefault(name, {})[seed] = value
                if measure.how == ESTIMATED:
                    estimated.add((key, name))
    for (arm, contestant, level, seed), tested in state.metrics.items():
        shown = {"accuracy", "loss", state.metric_of(arm).name}
        for name in state.report:
            if name not in shown and (value := tested.figures.get(name)) is not None:
                values.setdefault((arm, contestant, level), {}).setdefault(name, {})[seed] = value
    return {
        key: {
            name: MeasuredValue(mean, ESTIMATED if (key, name) in estimated else MEASURED)
            for name, by_seed in values_by_name.items()
            if (mean := estimate([by_seed[seed] for seed in sorted(by_seed)])) is not None
        }
        for key, values_by_name in values.items()
    }


def columns_with_values(
    values: Mapping[NetworkKey, Mapping[str, MeasuredValue]], task: TaskInfo = CLASSIFY
) -> list[Column]:
    """The columns with at least one value: built-in metrics first, then plugin metrics.

    task: that of the arm that the values belong to.
    """
    names = {name: None for by_name in values.values() for name in by_name}
    lines = [name for name in names if name.startswith(_LINE) and f"{name}.interpolated" in names]  # not its details
    columns = {
        **_COLUMNS,
        **_score_columns(task.metrics[0]),
        **{m.name: (_task_column(m),) for m in task.metrics},
        **{line: (_line_column(line, task.metrics[0]),) for line in lines},
    }
    known = [column for metric in columns.values() for column in metric if column.figure_name in names]
    return [
        *(column._replace(heading=column.heading.replace("{sample}", task.sample)) for column in known),
        *(_plugin_column(name) for name in names if not any(_belongs_to(name, metric) for metric in columns)),
    ]


def _belongs_to(figure_name: str, metric: str) -> bool:
    """Whether a value is the main value of a metric or one of its details (`latency.batch`)."""
    return figure_name == metric or figure_name.startswith(f"{metric}.")


def _task_column(metric: MetricInfo) -> Column:
    """The column of a metric of the task that networks are not compared by."""
    return Column(metric.name, scores.heading(metric), lambda value: scores.score(metric, Estimate(1, value, None)))


def _line_column(name: str, primary: MetricInfo) -> Column:
    """The column of a barrier between two networks, `barrier of A to B`."""
    unit = scores.difference_unit(primary) or scores.label(primary)
    heading = f"{_LINE.rstrip()}\n{name.removeprefix(_LINE)},\n{unit}"
    return Column(name, heading, lambda value: scores.score(primary, Estimate(1, value, None)))


def _plugin_column(figure_name: str) -> Column:
    """The column of a plugin metric: its name without the package prefix."""
    return Column(figure_name, figure_name.rpartition(":")[2], lambda value: f"{value:.4g}")


def format_cell(column: Column, values: Mapping[str, MeasuredValue]) -> str:
    """The mean over seeds, preceded by `~` if estimated; empty if not measured."""
    value = values.get(column.figure_name)
    if value is None:
        return ""
    return ("~" if value.how == ESTIMATED else "") + column.format_value(value.value.mean)


def machine_notes(state: RunState) -> list[str]:
    """Notes on machine-dependent metrics that were measured on more than one machine."""
    hosts_by_metric: dict[str, set[str]] = {}
    for (_, metric), measure in state.measures.items():
        if metric in _MACHINE_DEPENDENT and measure.host:
            hosts_by_metric.setdefault(metric, set()).add(measure.host)
    metrics_by_hosts: dict[tuple[str, ...], list[str]] = {}
    for metric, hosts in hosts_by_metric.items():
        if len(hosts) > 1:
            metrics_by_hosts.setdefault(tuple(sorted(hosts)), []).append(metric)
    return [
        f"{', '.join(metrics)}: measured on {plural(len(hosts), 'machine')} ({', '.join(hosts)})"
        for hosts, metrics in metrics_by_hosts.items()
    ]


def estimation_note(values_by_key: Mapping[NetworkKey, Mapping[str, MeasuredValue]]) -> str:
    """The assumptions of estimated values: `~ estimated: energy at 65 W, CO2 at 480 g/kWh`; empty if there are none."""
    estimated = [
        (name, value) for by_name in values_by_key.values() for name, value in by_name.items() if value.how == ESTIMATED
    ]
    if not estimated:
        return ""
    parts = []
    for figure, template in (("energy.watts", "energy at {} W"), ("carbon.intensity", "CO2 at {} g/kWh")):
        values = [round(value.value.mean, 1) for name, value in estimated if name == figure]
        if values:
            ends = dict.fromkeys((min(values), max(values)))
            parts.append(template.format("–".join(f"{value:g}" for value in ends)))
    return "~ estimated" + (f": {', '.join(parts)}" if parts else "")
