"""Steps that measure times run alone on a node, while the other nodes of a cluster go on."""

from __future__ import annotations

from typing import Any

import pytest

from tickdsl.engine.messages import Task
from tickdsl.engine.workers.ray_cluster import Node
from tickdsl.engine.workers.ray_workers import RayWorkers, _Actor
from tickdsl.plan.steps import Step

TRAINING = Task(Step("train", {}, {}, 1), {})
LATENCY = Task(Step("latency", {}, {}, 1), {})


class Remote:
    """A worker's process, to which nothing is sent."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *given: Any) -> None: ...


def cluster(*slots: int) -> RayWorkers:
    """Workers on nodes with so many slots, all of them idle."""
    workers: Any = RayWorkers.__new__(RayWorkers)
    nodes = [Node(f"id{number}", f"node{number}", count) for number, count in enumerate(slots)]
    workers._actors = [
        _Actor(f"{node.name}, worker {slot}", node, Remote(), greeted=True)
        for node in nodes
        for slot in range(node.slots)
    ]
    found: RayWorkers = workers
    return found


def test_a_latency_step_goes_to_a_node_where_nothing_runs() -> None:
    workers = cluster(2, 2)
    assert workers.submit([TRAINING]) == "node0, worker 0"
    assert workers.has_quiet_machine
    assert workers.submit([LATENCY]) == "node1, worker 0"
    assert not workers.has_quiet_machine


def test_nothing_else_starts_on_its_node_and_other_nodes_go_on() -> None:
    workers = cluster(2, 2)
    workers.submit([LATENCY])
    assert [workers.submit([TRAINING]) for _ in range(2)] == ["node1, worker 0", "node1, worker 1"]
    assert not workers.has_capacity


def test_a_busy_cluster_has_no_quiet_node() -> None:
    workers = cluster(2, 1)
    workers.submit([TRAINING])
    workers.submit([TRAINING])
    assert workers.has_capacity and not workers.has_quiet_machine
    with pytest.raises(RuntimeError):
        workers.submit([LATENCY])
