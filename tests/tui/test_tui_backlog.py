"""A long run with hundreds of arms opens within seconds, and the monitor stays responsive meanwhile."""

import asyncio
import time
from pathlib import Path

import pytest
from textual.widgets import ContentSwitcher
from tickdsl.tui import Monitor
from tickdsl.tui.widgets.rows import Rows

from tickdsl.records import EventReader, EventRecord
from tickdsl.records.event_log import encode
from tickdsl.records.events import (
    ArmInfo,
    LayerInfo,
    Layers,
    MeasurementInfo,
    Metric,
    Network,
    PlanResolved,
    RunStart,
    StepEnd,
    StepInfo,
    StepProgress,
    StepStart,
)

ARMS, SEEDS, ROUNDS = 200, 3, 8


def large_run(path: Path, events: int) -> None:
    """Write `events` events of a running study with ARMS x SEEDS x ROUNDS trainings."""
    arms = tuple(ArmInfo(id=f"arm-{n}[scope={n % 7}]", name=f"arm-{n}", sweep={}, levels=ROUNDS) for n in range(ARMS))
    steps, measurements = [], []
    for arm in arms:
        for seed in range(1, SEEDS + 1):
            parents: tuple[str, ...] = ()
            for level in range(ROUNDS + 1):
                name = f"{arm.name}.{seed}.{level}"
                label = "dense" if level == 0 else f"train round {level}"
                steps.append(StepInfo(
                    id=name, key=name, operation="train", label=label, arms=(arm.id,), seed=seed, epochs=100.0,
                    parents=parents,
                ))  # fmt: skip
                who = "dense" if level == 0 else "ticket"
                measurements.append(MeasurementInfo(arm=arm.id, contestant=who, level=level, seed=seed, step=name))
                parents = (name,)
    layers = tuple(LayerInfo(path=f"block{n}.conv", kind="conv", outputs=64 + n, weights=36864) for n in range(60))
    start = RunStart(
        run="big-20260102-030405-00ff", plan="big", path="big.plan", argv=(), pid=1, host="far", boot="0", versions={},
        jobs=1, device="cpu", store="s",
    )  # fmt: skip
    plan = PlanResolved(
        arms=arms, contestants=("ticket", "dense"), seeds=tuple(range(1, SEEDS + 1)), steps=tuple(steps),
        measurements=tuple(measurements), within=0.01,
    )  # fmt: skip
    network = Network(arms=tuple(arm.id for arm in arms), model="m", params=10**6, macs=10**8, layers=layers)
    written = 0
    with path.open("wb") as file:

        def write(event: object) -> None:
            nonlocal written
            file.write(encode(EventRecord(written, 1767322800.0 + written / 100, event)))  # type: ignore[arg-type]
            written += 1

        for event in (start, plan, network):
            write(event)
        for m in measurements:
            if written >= events:
                return
            write(StepStart(step=m.step))
            for epoch in range(1, 101):
                write(StepProgress(step=m.step, epoch=epoch, epochs=100, loss=1 / epoch, accuracy=0.9, lr=0.1))
            left = 0.8**m.level
            write(StepEnd(step=m.step, status="done", seconds=1.0, metrics={"accuracy": 0.9}))
            write(Metric(
                arm=m.arm, contestant=m.contestant, level=m.level, seed=m.seed, step=m.step, sparsity=1 - left,
                accuracy=0.95 - 0.01 * m.level + 0.001 * m.seed, params=int(10**6 * left), macs=10**8,
            ))  # fmt: skip
            if m.level:
                weights = {layer.path: int(layer.weights * left) for layer in layers}
                write(Layers(arm=m.arm, contestant="ticket", level=m.level, seed=m.seed, outputs={}, weights=weights))


async def open_and_use(path: Path) -> tuple[float, list[float], list[float], Monitor]:
    """CPU seconds to read all events, seconds per key press meanwhile, and seconds per key press afterwards."""
    app = Monitor(EventReader(path), has_engine=False)
    async with app.run_test(size=(120, 36)) as pilot:
        began, waits, keys = time.process_time(), list[float](), "12345"
        while app.feed.behind or not app.feed.event_count:
            pressed = time.process_time()
            await pilot.press(keys[len(waits) % 5])
            waits.append(time.process_time() - pressed)
            await asyncio.sleep(0.05)
        read = time.process_time() - began
        after = []
        for key in ("1", "g", "j", "j", "right", "j", "pagedown", "G", "2", "full_stop", "3", "j", "5", "pageup", "1"):
            pressed = time.process_time()
            await pilot.press(key)
            after.append(time.process_time() - pressed)
        await pilot.press("slash", *"arm-17")
        assert len(app.query_one("#arms", Rows).rows) == 11
        assert app.query_one(ContentSwitcher).current == "run"
        return read, waits, after, app


@pytest.mark.slow
def test_half_a_million_events_open_while_keys_are_pressed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    large_run(path, 500_000)
    read, waits, after, app = asyncio.run(open_and_use(path))
    summary = f"{app.feed.event_count} events read in {read:.1f} s of CPU"
    print(f"\n{summary}, a key took {max(waits):.2f} s at most meanwhile, {max(after):.2f} s afterwards")
    assert app.feed.event_count >= 500_000
    assert len(waits) > 3, "no key press is handled while events are read"
    assert max(after) < read, "a key press takes as long as reading all events"


@pytest.mark.slow
def test_hundreds_of_arms_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    large_run(path, 20_000)
    *_, app = asyncio.run(open_and_use(path))
    assert len(app.feed.state.arms) == ARMS
