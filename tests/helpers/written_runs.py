"""Writes event files of runs with made-up measurements, for reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tickdsl.records import EventWriter, RunPaths, new_run
from tickdsl.records import events as e

PLAN = """\
# Asks: does <colt> & co. win?
model small-cnn on digits
train 8ep lr=0.1 batch=64
seeds 3
arm colt { prune filters 30% x 3; rewind weights to init }
compare colt, random-init, dense within=1%
"""
_LAYERS = (
    e.LayerInfo(path="conv1", kind="conv 3x3", outputs=16, weights=144, macs=9216, group="a"),
    e.LayerInfo(path="conv2", kind="conv 3x3", outputs=32, weights=4608, macs=73728, group="b"),
    e.LayerInfo(path="fc", kind="linear", outputs=10, weights=320, macs=320),
)


def write_run(
    out: Path,
    arms: int = 2,
    seeds: tuple[int, ...] = (1, 2, 3),
    controls: tuple[str, ...] = ("random-init",),
    levels: int = 3,
    end: str | None = "ok",
    until: int | None = None,
    plan: str = "colt",
    text: str | None = PLAN,
    metrics: Sequence[e.MetricInfo] = (),
) -> RunPaths:
    """Write a run folder with the first `until` events of a run; with `end` None, the run has not ended.

    metrics: the primary metrics of the arms' tasks, in turn, instead of the accuracy, which becomes their scores as it
    is, or as the error that it leaves where lower is better.
    """
    paths = new_run(out, plan, token=f"{len(list(out.glob('*'))) if out.exists() else 0:04x}")
    if text is not None:
        paths.plan.write_text(text)
    clock = iter(range(1_790_000_000, 1_799_000_000))
    with EventWriter(paths.events, clock=lambda: float(next(clock))) as writer:
        events = _events(paths.folder.name, plan, arms, seeds, controls, levels, end)
        for number, event in enumerate(_with_tasks(events, metrics) if metrics else events):
            if until is not None and number >= until:
                break
            writer.write(event)
        if until is not None and end == "stopped":
            writer.write(e.RunEnd(status=end, seconds=60.0, exit=4))
    last = next(clock)
    os.utime(paths.events, (last, last))
    return paths


LOSS = e.MetricInfo(name="loss", higher_is_better=False)


def _with_tasks(events: Iterator[e.Event], metrics: Sequence[e.MetricInfo]) -> Iterator[e.Event]:
    """The events of a run whose arms have other tasks than classification, unless their metric is the accuracy."""
    of_arm: dict[str, e.MetricInfo] = {}
    for event in events:
        if isinstance(event, e.PlanResolved):
            of_arm = {arm.id: metrics[number % len(metrics)] for number, arm in enumerate(event.arms)}
            tasks = {
                arm: e.TaskInfo(name="classify" if metric.name == "accuracy" else "made-up", metrics=(metric, LOSS))
                for arm, metric in of_arm.items()
            }
            event = attrs.evolve(event, tasks=tasks)
        elif isinstance(event, e.Metric) and of_arm[event.arm].name != "accuracy":
            metric = of_arm[event.arm]
            assert event.accuracy is not None
            score = event.accuracy if metric.higher_is_better else round(1.0 - event.accuracy, 4)
            event = attrs.evolve(
                event,
                accuracy=None,
                score=score,
                metric=metric.name,
                best_score=score,
                figures={metric.name: score, "loss": event.loss},
            )
        yield event


def _events(
    run: str, plan: str, arms: int, seeds: tuple[int, ...], controls: tuple[str, ...], levels: int, end: str | None
) -> Iterator[e.Event]:
    names = [
        f"{'colt' if n % 2 == 0 else 'imp'}[share={n // 2}]" if arms > 2 else ("colt", "imp")[n] for n in range(arms)
    ]
    infos = tuple(
        e.ArmInfo(id=n, name=n.partition("[")[0], sweep={"share": i // 2} if arms > 2 else {}, levels=levels)
        for i, n in enumerate(names)
    )
    steps, measurements = [], []
    for seed in seeds:
        init, dense = f"init-{seed}", f"dense-{seed}"
        steps.append(e.StepInfo(id=init, key=f"k{init}", operation="init", label="init", arms=tuple(names), seed=seed))
        steps.append(
            e.StepInfo(
                id=dense,
                key=f"k{dense}",
                operation="train",
                label="dense",
                arms=tuple(names),
                seed=seed,
                epochs=8.0,
                parents=(init,),
                stored=seed == seeds[0],
            )
        )
        for arm in names:
            measurements.append(e.MeasurementInfo(arm=arm, contestant="dense", level=0, seed=seed, step=dense))
            before = dense
            for level in range(1, levels + 1):
                pruned = f"prune-{arm}-{level}-{seed}"
                steps.append(
                    e.StepInfo(
                        id=pruned,
                        key=f"k{pruned}",
                        operation="prune",
                        label=f"prune round {level}",
                        arms=(arm,),
                        parents=(before,),
                    )
                )
                for contestant in ("ticket", *controls):
                    name = f"{contestant}-{arm}-{level}-{seed}"
                    steps.append(
                        e.StepInfo(
                            id=name,
                            key=f"k{name}",
                            operation="train",
                            label="train",
                            arms=(arm,),
                            seed=seed,
                            epochs=8.0,
                            parents=(init, pruned),
                        )
                    )
                    measurements.append(
                        e.MeasurementInfo(arm=arm, contestant=contestant, level=level, seed=seed, step=name)
                    )
                before = f"ticket-{arm}-{level}-{seed}"
    yield e.RunStart(
        run=run,
        plan=plan,
        path=f"plans/{plan}.plan",
        argv=("tickdsl", "run", f"plans/{plan}.plan"),
        pid=1,
        host="elsewhere",
        boot="b",
        versions={"tickdsl": "0.1.0", "torch": "2.13.0"},
        jobs=2,
        device="cpu",
        store=".tick/store",
    )
    yield e.PlanResolved(
        arms=infos,
        contestants=("ticket", "dense", *controls),
        seeds=seeds,
        steps=tuple(steps),
        measurements=tuple(measurements),
        notes=("batch is 64 | by default",),
        within=0.01,
        data=dict.fromkeys(names, "digits"),
    )
    yield e.Network(arms=tuple(names), model="small-cnn", params=5082, macs=83264, layers=_LAYERS)
    yield e.Warn(message="a stored result is damaged", code="TD901")
    where = {m.step: m for m in measurements}
    for step in steps:
        if not step.stored:
            yield e.StepStart(step=step.id)
        seconds = 0.0 if step.stored else {"train": 2.5}.get(step.operation, 0.01)
        trained = {"train_time": 2.4, "passes": 8.0, "images": 11_496}
        metrics = trained if step.operation == "train" else {}
        if end == "failed" and step is steps[-1]:
            yield e.Log(message="Traceback (most recent call last):\n  <module>\nValueError: <broken>\n")
            yield e.StepEnd(step=step.id, status="failed", error="ValueError: <broken>")
            break
        yield e.StepEnd(step=step.id, status="stored" if step.stored else "done", seconds=seconds, metrics=metrics)
        if step.id in where:
            for m in (m for m in measurements if m.step == step.id):
                yield _metric(m, names.index(m.arm))
                if m.level:
                    left = 0.7**m.level
                    yield e.Layers(
                        arm=m.arm,
                        contestant=m.contestant,
                        level=m.level,
                        seed=m.seed,
                        outputs={"conv1": round(16 * left), "conv2": round(32 * left)},
                        weights={"conv1": round(144 * left), "conv2": round(4608 * left * left)},
                    )
    if end is not None:
        yield e.RunEnd(status=end, seconds=120.0, exit={"ok": 0, "failed": 3}.get(end, 4))


def _metric(m: e.MeasurementInfo, arm_index: int) -> e.Metric:
    """Accuracies fall with the round, faster for later arms and controls, and vary a little with the seed."""
    arm_index *= m.contestant != "dense"  # shared by all arms
    noise = ((m.seed * 7 + m.level * m.seed * 5 + arm_index * 3) % 11 - 5) / 5000
    loss = (0.002 + 0.02 * min(arm_index, 3)) * max(0, m.level - 1) + 0.02 * m.level * (
        m.contestant not in ("ticket", "dense")
    )
    left = 0.7**m.level
    return e.Metric(
        arm=m.arm,
        contestant=m.contestant,
        level=m.level,
        seed=m.seed,
        step=m.step,
        accuracy=round(0.95 + noise - loss, 4),
        loss=0.25,
        sparsity=1 - left,
        params=int(5082 * left),
        macs=int(83264 * left),
        filters=left,
        seconds=2.4,
    )
