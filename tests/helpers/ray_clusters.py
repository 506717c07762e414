"""Ray clusters of several nodes on this machine, and runs on them. For tests and benchmarks."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plan.model import Plan
from tickdsl.records.event_decode import EventRecord

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# By default, Ray gives its workers less of a busy machine than anybody else has: they would hardly start there.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
# A busy machine takes its time: nodes that start slowly, or answer late, are not lost.
os.environ["RAY_agent_register_timeout_ms"] = "300000"  # noqa: SIM112
os.environ["RAY_health_check_timeout_ms"] = "60000"  # noqa: SIM112
_START_SECONDS = 60.0
_STARTS = 5


def plan(text: str) -> Plan:
    resolved = resolve(load_source(Source("test.plan", text))).plan
    assert resolved is not None
    return resolved


def patient(look: Callable[..., Any]) -> Callable[..., Any]:
    """`look`, which raises RuntimeError while a node has not started: Ray itself gives up after 30 s."""

    @functools.wraps(look)
    def wait(*args: Any) -> Any:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return look(*args)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    return wait


def started(start: Callable[[], Any]) -> Any:
    """What `start` returns, tried again if a node ends while it starts, as it does if its own agent takes 15 s."""
    for _ in range(_STARTS - 1):
        with contextlib.suppress(Exception):  # Ray raises no narrower one
            return start()
    return start()


class Nodes:
    """A cluster whose nodes can be killed. Nodes are added by the main thread only: Ray wants it so.

    environment: by the number of a node, counted from 0, what its environment has besides that of this process.
    """

    def __init__(self, environment: Callable[[int], dict[str, str]] = lambda number: {}) -> None:
        from ray._private import services
        from ray.cluster_utils import Cluster

        services.get_node = patient(services.get_node)
        head = {"num_cpus": 0, "include_dashboard": False}
        self._cluster = started(lambda: Cluster(initialize_head=True, head_node_args=head))
        self.address: str = self._cluster.address
        self.nodes: list[Any] = []
        self._environment, self._added = environment, 0
        self.fill(3)

    def fill(self, count: int) -> None:
        while len(self.nodes) < count:
            variables = self._environment(self._added)
            self.nodes.append(started(lambda: self._cluster.add_node(num_cpus=1, env_vars=variables)))  # noqa: B023
            self._added += 1

    def kill(self, number: int) -> None:
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def kill_head(self, everything: bool = False) -> None:
        """End the process that knows the state of the cluster, as when its machine is lost.

        With `everything`, all processes of the head, as by `ray stop` where the run was started.
        """
        for kind, started in self._cluster.head_node.all_processes.items():
            if everything or kind == "gcs_server":
                for each in started:
                    os.kill(each.process.pid, signal.SIGKILL)

    def close(self) -> None:
        import ray

        ray.shutdown()  # of a run that has given up a lost head
        self._cluster.shutdown()


def run(
    text: str,
    root: Path,
    address: str | None,
    listen: Callable[[EventRecord], None] = lambda record: None,
    **options: Any,
) -> tuple[int, list[Any]]:
    """The exit code and the events of a run, on a cluster or in this process."""
    seen: list[Any] = []

    def listen_too(record: EventRecord) -> None:
        seen.append(record.event)
        listen(record)

    workers = RayOptions(address) if address else None
    jobs = None if address else 1
    chosen = LaunchOptions(store=root / "store", out=root / "runs", workers=workers, jobs=jobs, **options)
    return launch(plan(text), text, chosen, listen_too).exit, seen
