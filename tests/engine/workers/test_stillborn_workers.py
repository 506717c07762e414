"""Workers that die before they have answered, as where a node lacks something that no check has asked for."""

from __future__ import annotations

from typing import Any

from tickdsl.engine.messages import RUN, StepWarning
from tickdsl.engine.workers import ray_workers
from tickdsl.engine.workers.ray_cluster import Node
from tickdsl.engine.workers.ray_workers import RayWorkers


class RayError(Exception):
    """As Ray's own."""


class Ray:
    """Ray, as far as workers that die at once need it."""

    class exceptions:
        RayError = RayError
        ActorUnavailableError = type("ActorUnavailableError", (RayError,), {})

    def __init__(self) -> None:
        self.hired = 0

    def remote(self, kind: type) -> Ray:
        return self

    def options(self, **given: object) -> Any:
        hire = type("Hire", (), {})()
        hire.remote = self._hire
        return hire

    def _hire(self, *given: object) -> Any:
        self.hired += 1
        calls = type("Calls", (), {"__getattr__": lambda self, name: self, "remote": lambda self, *given: object()})
        return calls()

    def wait(self, waiting: list[Any], **options: object) -> tuple[list[Any], list[Any]]:
        return waiting, []

    def get(self, mail: object) -> None:
        raise RayError("the cache cannot be written")

    def kill(self, handle: object) -> None: ...


class Nodes:
    """One node that is alive."""

    cpus, gpus = 1.0, 0.0

    def __init__(self) -> None:
        self.usable = {"id": Node("id", "node", 1)}
        self.refused: list[str] = []

    def head_answers(self) -> bool:
        return True

    def look(self) -> list[str]:
        return []

    def is_alive(self, node_id: str) -> bool:
        return True

    def on(self, node_id: str) -> None: ...

    def refuse(self, node_id: str) -> None:
        self.refused.append(node_id)
        self.usable.pop(node_id)


def test_a_node_whose_workers_cannot_start_is_named_and_not_used_any_more(monkeypatch: Any) -> None:
    monkeypatch.setattr(ray_workers, "LOOK_SECONDS", 0.0)
    ray, nodes = Ray(), Nodes()
    workers: Any = RayWorkers.__new__(RayWorkers)
    workers._ray, workers._nodes, workers._folder, workers._settings = ray, nodes, None, None
    workers._jobs, workers._command, workers._actors, workers._told = 1, RUN, [], []
    workers._started, workers._stillborn = ray_workers.Counter(), ray_workers.Counter()
    workers._last_look, workers._head_answers, workers._alone = 0.0, True, False
    told = [message for _ in range(12) for message in workers.poll(0.0)]
    warnings = [message.message for message in told if isinstance(message, StepWarning)]
    assert ray.hired == len(warnings) == 3
    assert all(text.startswith("a worker on node could not start: it died") for text in warnings)
    assert warnings[-1].endswith("; the node is not used any more") and nodes.refused == ["id"]
