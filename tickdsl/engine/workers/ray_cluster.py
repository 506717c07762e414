"""A Ray cluster as a run sees it: its nodes, which of them can run its steps, and where a worker fits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from tickdsl.engine.workers.node_check import NodeNeeds, device_here, problems_here
from tickdsl.engine.workers.ray_options import RayOptions, require_ray
from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.devices import RemoteDevice

_CONNECT_SECONDS = 10.0
_HEAD_CONNECT_SECONDS = 2.0
#: How long a node may take to say whether it can run the steps: it imports torch, which takes minutes where many nodes
#: read it from one network disk, or on a busy machine.
_CHECK_SECONDS = 300.0
#: Nodes of a cluster may join and leave; how often they are listed.
LOOK_SECONDS = 2.0
#: How long the head may not answer before a run gives up: Ray itself would end the process after a minute.
HEAD_SECONDS = 30.0


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
    """Connect to the cluster, or start one on this machine, unless that was done before; returns what disconnects.

    Raises TickdslError if there is no cluster at the address.
    """
    ray = import_ray()
    if ray.is_initialized():  # by this run before, or by the program that embeds it
        return disconnect
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
    _connections.append(ray.shutdown)
    return disconnect


#: What ends the connection that a run has made; none if a program that embeds the run had one.
_connections: list[Callable[[], None]] = []


def disconnect() -> None:
    """End the connection to the cluster that this run has made, if it has."""
    while _connections:
        _connections.pop()()


def abandon() -> None:
    """Forget the connection to a cluster whose head is lost: to end it would take as long as Ray waits for the head."""
    _connections.clear()


def ask_for_gpu(announce: Callable[[str], None]) -> RemoteDevice | None:
    """The GPU of the first node that has one; None if no node has.

    Raises TickdslError if torch finds none of those that the nodes have.
    """
    ray = import_ray()
    having = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    if not having:
        return None
    announce("asking a node of the Ray cluster for its GPU")
    for node in having:
        check = ray.remote(device_here).options(
            num_cpus=0, num_gpus=0.01, scheduling_strategy=_on(node["NodeID"]), max_retries=0
        )
        with contextlib.suppress(ray.exceptions.RayError):  # it is full, or has just left
            device: RemoteDevice | None = ray.get(check.remote("cuda"), timeout=_CHECK_SECONDS)
            if device is not None:
                return device
    names = ", ".join(sorted({str(node["NodeManagerHostname"]) for node in having}))
    raise TickdslError(
        f"torch finds no GPU on the nodes of the Ray cluster that have one: {names}",
        "install torch with CUDA on them, or train on CPUs with --device cpu",
    )


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
        self._head: str = self._ray.get_runtime_context().gcs_address
        self._head_silent_since: float | None = None
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

    def head_answers(self) -> bool:
        """Whether the head of the cluster answers; while it does not, nothing else here may be asked.

        Raises TickdslError if it has not for HEAD_SECONDS.
        """
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host, int(port)), _HEAD_CONNECT_SECONDS).close()
        except OSError as error:
            now = time.monotonic()
            if self._head_silent_since is None:
                self._head_silent_since = now
            if now - self._head_silent_since < HEAD_SECONDS:
                return False
            abandon()
            raise TickdslError(
                f"the head of the Ray cluster at {self._head} does not answer any more: {error}",
                "what is stored and saved stays: start the cluster again and repeat the command",
            ) from error
        self._head_silent_since = None
        return True

    def refuse(self, node_id: str) -> None:
        """Use a node no more."""
        self.usable.pop(node_id, None)
        self._refused.add(node_id)

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
        return _on(node_id)

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


def _on(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


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
