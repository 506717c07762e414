"""A Ray cluster as a run sees it: its nodes, which of them can run its steps, and where a worker fits."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from tickdsl.engine.workers.node_check import NodeNeeds, problems_here
from tickdsl.engine.workers.ray_options import RayOptions, require_ray
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural

_CONNECT_SECONDS = 10.0
#: How long a node may take to say whether it can run the steps: it may have to install nothing, but imports torch.
_CHECK_SECONDS = 120.0
#: Nodes of a cluster may join and leave; how often they are listed.
LOOK_SECONDS = 2.0


@attrs.frozen
class Node:
    """A node of the cluster that can run steps. slots: how many workers fit on it."""

    id: str
    name: str
    slots: int


def import_ray() -> Any:
    """Ray, which sends no usage statistics. Raises TickdslError if it is not installed."""
    require_ray(RayOptions())
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


def connect(options: RayOptions) -> Callable[[], None]:
    """Connect to the cluster, or start one on this machine; returns what disconnects.

    Raises TickdslError if there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():  # by the program that embeds this run
        return lambda: None
    _require_answer(options.address)
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONSAFEPATH": "1"}
    environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    with tempfile.TemporaryDirectory() as empty, _signal_handlers_kept():
        try:
            ray.init(
                address=options.address,
                namespace="tickdsl",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                # Without a folder of its own, each worker would import modules of the working folder.
                runtime_env={"working_dir": empty, "env_vars": environment},
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(options.address, (str(error).splitlines() or [""])[0]) from error
    return ray.shutdown  # type: ignore[no-any-return]


def _require_answer(address: str | None) -> None:
    """Raise TickdslError if nobody answers at the address: Ray itself would try for minutes, then end the process."""
    host, separator, port = (address or "").rpartition(":")
    if not separator:
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, reason: str) -> TickdslError:
    return TickdslError(
        f"there is no Ray cluster {f'at {address}' if address else 'on this machine'}: {reason}",
        "start one by `ray start --head`, and name the address that it prints by --workers ray:HOST:PORT",
    )


class Nodes:
    """The nodes of the cluster that can run the steps of a study."""

    def __init__(self, options: RayOptions, needs: NodeNeeds) -> None:
        self._ray = import_ray()
        self._needs = needs
        self.cpus = options.cpus
        self.gpus = (1.0 if needs.device.startswith("cuda") else 0.0) if options.gpus is None else options.gpus
        self._checks: dict[str, Any] = {}  # by node; the answer that is still awaited
        self._refused: set[str] = set()
        self.usable: dict[str, Node] = {}

    def look(self) -> list[str]:
        """List the nodes, and check those that are new; returns why a node cannot be used, one message each."""
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        for lost in [key for key in self.usable if key not in alive]:
            del self.usable[lost]
        for key, node in alive.items():
            known = key in self.usable or key in self._refused or key in self._checks
            if not known and self._slots(node):
                self._checks[key] = self._check(key)
        return [told for key in [*self._checks] for told in self._read_check(key, alive.get(key))]

    def is_alive(self, node_id: str) -> bool:
        """Whether the cluster still counts a node in."""
        return any(node["NodeID"] == node_id and node["Alive"] for node in self._ray.nodes())

    def require_some(self) -> list[str]:
        """Wait until the present nodes are checked; returns why some cannot be used.

        Raises TickdslError if none can.
        """
        problems = self.look()
        if self._checks:
            self._ray.wait([*self._checks.values()], num_returns=len(self._checks), timeout=_CHECK_SECONDS)
        problems += self.look()
        if self.usable:
            return problems
        if self._checks:
            raise TickdslError(
                f"{plural(len(self._checks), 'node')} of the Ray cluster did not answer within {_CHECK_SECONDS:g} s",
                "look at `ray status`",
            )
        if problems:
            raise TickdslError(
                "; ".join(problems), "give every node the same versions, files and store as this machine"
            )
        found = ", ".join(_in_words(node) for node in self._ray.nodes() if node["Alive"])
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        raise TickdslError(
            f"no node of the Ray cluster has {self.cpus:g} CPU{gpus} for a step: {found}",
            "lower --cpus-per-step or --gpus-per-step",
        )

    def on(self, node_id: str) -> Any:
        """Ray's way to say that something runs on this node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id, soft=False)

    def _slots(self, node: dict[str, Any]) -> int:
        resources = node["Resources"]
        fits = [int((resources.get("CPU", 0.0) + 1e-6) // self.cpus)] if self.cpus else []
        if self.gpus:
            on_each = int((1 + 1e-6) // self.gpus)
            fits.append(int(resources.get("GPU", 0.0)) * on_each)
        return min(fits)

    def _check(self, node_id: str) -> Any:
        check = self._ray.remote(problems_here)
        return check.options(
            num_cpus=0, num_gpus=min(self.gpus, 0.01), scheduling_strategy=self.on(node_id), max_retries=0
        ).remote(self._needs)

    def _read_check(self, node_id: str, node: dict[str, Any] | None) -> Iterable[str]:
        answer = self._checks[node_id]
        if not self._ray.wait([answer], timeout=0)[0]:
            return ()
        del self._checks[node_id]
        if node is None:
            return ()
        name = str(node["NodeManagerHostname"])
        same_name = [other for other in self._ray.nodes() if other["Alive"] and other["NodeManagerHostname"] == name]
        if len(same_name) > 1:
            name = f"{name} ({node_id[:6]})"
        try:
            problems = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            problems = [f"its check failed: {_first_line(error)}"]
        if problems:
            self._refused.add(node_id)
            return (f"node {name} cannot run the steps: {', and '.join(problems)}",)
        self.usable[node_id] = Node(node_id, name, self._slots(node))
        return ()


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _in_words(node: dict[str, Any]) -> str:
    resources = node["Resources"]
    return f"{node['NodeManagerHostname']} has {resources.get('CPU', 0):g} CPU and {resources.get('GPU', 0):g} GPU"


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Ray ends the process at SIGTERM; a run stops at the next safe point instead."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
