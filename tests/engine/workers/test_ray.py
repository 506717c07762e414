"""A run on a Ray cluster of three nodes, all of them on this machine."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_runs import weight_bytes
from ray_clusters import Nodes, plan, run

from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.workers import ray_cluster
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.errors import TickdslError
from tickdsl.records.control import send_request
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Checkpoint, RunStart, StepEnd, StepProgress, StepStart, Warn
from tickdsl.records.paths import RunPaths
from tickdsl.records.store import Store

pytestmark = pytest.mark.slow

PLAN = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep batch=32
seeds 3
prune weights 20%; rewind lr
"""
LONG = PLAN.replace("train 1ep", "train 40ep").replace("seeds 3", "seeds 2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.close()


def test_a_cluster_gives_the_same_bits_as_one_process(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    code, seen = run(PLAN, tmp_path / "cluster", cluster.address)
    assert code == 0
    assert run(PLAN, tmp_path / "alone", None)[0] == 0
    assert weight_bytes(tmp_path / "cluster" / "store") == weight_bytes(tmp_path / "alone" / "store")
    (start,) = [event for event in seen if isinstance(event, RunStart)]
    assert start.jobs_in_words.startswith("a Ray cluster")
    places = {event.worker.rpartition(",")[0] for event in seen if isinstance(event, StepStart)}
    assert len(places) == 3


def test_what_is_stored_is_not_run_again(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    assert run(PLAN, tmp_path, None)[0] == 0
    code, seen = run(PLAN, tmp_path, cluster.address)
    assert code == 0
    assert not [event for event in seen if isinstance(event, StepStart)]


def test_training_goes_on_elsewhere_when_a_node_is_lost(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    saved: set[str] = set()

    def kill_two_nodes(record: EventRecord) -> None:
        """As soon as both trainings have a checkpoint: at least one of them is on a node that is killed."""
        if isinstance(record.event, Checkpoint) and record.event.epoch >= 2:
            saved.add(record.event.step)
            while len(saved) == 2 and len(cluster.nodes) > 1:
                cluster.kill(-1)

    code, seen = run(LONG, tmp_path / "cluster", cluster.address, kill_two_nodes, checkpoint_seconds=0.0)
    assert code == 0
    lost = [event.message for event in seen if isinstance(event, Warn) and "is lost" in event.message]
    assert lost and all("the step goes on elsewhere" in message for message in lost)
    attempts = [event.attempt for event in seen if isinstance(event, StepStart)]
    assert set(attempts) == {1}  # a lost node is no fault of a step
    first_epochs: dict[str, list[float]] = {}
    for event in seen:
        if isinstance(event, StepStart):
            first_epochs.setdefault(event.step, []).append(-1.0)
        elif isinstance(event, StepProgress) and first_epochs[event.step][-1] < 0:
            first_epochs[event.step][-1] = event.epoch
    resumed = [epochs[-1] for epochs in first_epochs.values() if len(epochs) > 1]
    assert resumed and max(resumed) > 1.5  # from a checkpoint, not from the start
    assert run(LONG, tmp_path / "alone", None)[0] == 0
    assert weight_bytes(tmp_path / "cluster" / "store") == weight_bytes(tmp_path / "alone" / "store")


def test_a_node_that_joins_later_is_asked_and_used(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    seen: list[Any] = []
    running = threading.Event()

    def listen(record: EventRecord) -> None:
        seen.append(record.event)
        if isinstance(record.event, StepProgress):
            running.set()

    text = LONG.replace("train 40ep", "train 1000ep").replace("seeds 2", "seeds 6")
    thread = threading.Thread(target=run, args=(text, tmp_path, cluster.address, listen))
    thread.start()
    assert running.wait(120)
    cluster.fill(4)
    thread.join()
    assert not [event.message for event in seen if isinstance(event, Warn)]
    assert len({event.worker for event in seen if isinstance(event, StepStart)}) == 4
    cluster.kill(-1)


def test_a_paused_run_trains_nothing_and_goes_on(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    paused: list[float] = []

    def pause(record: EventRecord) -> None:
        if isinstance(record.event, StepProgress) and not paused:
            paused.append(time.monotonic())
            send_request(RunPaths(folder).control, "pause")
            threading.Timer(3.0, send_request, (RunPaths(folder).control, "resume")).start()

    code, seen = run(LONG, tmp_path, cluster.address, pause, folder=folder)
    assert code == 0 and paused
    states = [event.state for event in seen if event.type == "control.ack"]
    assert states[-1] == "running" and "paused" in states


def test_a_stopped_run_keeps_checkpoints(tmp_path: Path, cluster: Nodes) -> None:
    cluster.fill(3)
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    asked: list[str] = []

    def stop(record: EventRecord) -> None:
        if isinstance(record.event, StepProgress) and not asked:
            asked.append(record.event.step)
            send_request(RunPaths(folder).control, "stop")

    code, _ = run(LONG, tmp_path, cluster.address, stop, folder=folder)
    assert code == 4 and asked
    assert run(LONG, tmp_path, None)[0] == 0
    assert run(LONG, tmp_path / "alone", None)[0] == 0
    assert weight_bytes(tmp_path / "store") == weight_bytes(tmp_path / "alone" / "store")


def test_a_node_that_differs_is_refused_by_name(
    tmp_path: Path, cluster: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.fill(1)
    from tickdsl.engine.workers import node_check

    monkeypatch.setattr(node_check, "versions_here", lambda: {"tickdsl": "9.9", "torch": "9", "Python": "3.11"})
    with pytest.raises(TickdslError, match=r"node \S+.* cannot run the steps: it has tickdsl .*, the run has 9\.9"):
        run(PLAN, tmp_path, cluster.address)


def test_steps_that_fit_on_no_node(tmp_path: Path, cluster: Nodes) -> None:
    options = LaunchOptions(
        store=tmp_path / "store", out=tmp_path / "runs", workers=RayOptions(cluster.address, cpus=64.0)
    )
    with pytest.raises(TickdslError, match=r"no node of the Ray cluster has 64 CPU for a step"):
        launch(plan(PLAN), PLAN, options, lambda record: None)


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match=r"there is no Ray cluster at 127\.0\.0\.1:1"):
        run(PLAN, tmp_path, "127.0.0.1:1")


def test_nodes_killed_at_random_lose_nothing(tmp_path: Path, cluster: Nodes) -> None:
    """`benchmarks/ray_nodes.py` does this 20 times."""
    cluster.fill(3)
    draw = random.Random(7)
    kills = sorted(draw.uniform(0.1, 0.7) for _ in range(2))
    done: list[StepEnd] = []

    def kill_nodes(record: EventRecord) -> None:
        if isinstance(record.event, StepEnd) and record.event.status == "done":
            done.append(record.event)
        if isinstance(record.event, StepProgress) and kills and len(cluster.nodes) > 1:
            kills.pop()
            cluster.kill(draw.randrange(len(cluster.nodes)))

    code, _ = run(PLAN.replace("1ep", "6ep"), tmp_path / "cluster", cluster.address, kill_nodes, checkpoint_seconds=0.0)
    assert code == 0 and not kills
    names = [event.step for event in done]
    assert len(names) == len(set(names))  # nothing that was stored was trained again
    assert run(PLAN.replace("1ep", "6ep"), tmp_path / "alone", None)[0] == 0
    assert weight_bytes(tmp_path / "cluster" / "store") == weight_bytes(tmp_path / "alone" / "store")


def test_a_lost_head_ends_the_run_and_the_same_command_goes_on_with_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "HEAD_SECONDS", 4.0)
    plan = LONG.replace("seeds 2", "seeds 1")  # a dense training, then that of the ticket
    first, done, saved = Nodes(), set[str](), list[str]()

    def kill_head(record: EventRecord) -> None:
        """In the second training, once the first one is stored."""
        event = record.event
        if isinstance(event, StepEnd) and event.status == "done":
            done.add(event.step)
        if isinstance(event, Checkpoint) and event.epoch >= 2 and len(done) > 1 and not saved:
            saved.append(event.step)
            first.kill_head()

    with pytest.raises(TickdslError, match=r"the head of the Ray cluster at \S+ does not answer any more"):
        run(plan, tmp_path / "cluster", first.address, kill_head, checkpoint_seconds=0.0)
    first.close()
    assert saved
    stored = set(Store(tmp_path / "cluster" / "store").keys())
    second = Nodes()
    try:
        code, seen = run(plan, tmp_path / "cluster", second.address)
    finally:
        second.close()
    assert code == 0
    started = {event.step for event in seen if isinstance(event, StepStart)}
    assert not [name for name in started for key in stored if key.startswith(name)]  # nothing that was stored
    if saved[0] in started:  # its worker may have come to the end of the training before the cluster was shut down
        progress = next(event for event in seen if isinstance(event, StepProgress) and event.step == saved[0])
        assert progress.epoch > 1.5  # from the checkpoint
    assert run(plan, tmp_path / "alone", None)[0] == 0
    assert weight_bytes(tmp_path / "cluster" / "store") == weight_bytes(tmp_path / "alone" / "store")
