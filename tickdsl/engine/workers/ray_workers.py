"""Workers on the nodes of a Ray cluster: actors that stay alive between steps, which Ray starts and watches over.

The run decides what runs where. A node that is lost is no fault of the steps that ran on it: they go on elsewhere, from
their last checkpoint in the shared store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tickdsl.engine.messages import RUN, LogMessage, Message, NodeLost, Outcome, StepWarning, Task, WorkerLost
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.node_check import NodeNeeds
from tickdsl.engine.workers.ray_cluster import LOOK_SECONDS, Node, Nodes, connect, import_ray
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.engine.workers.remote_worker import RemoteWorker

#: How long the cluster may take to notice that a node is gone, after the workers on it have died.
_PATIENCE_SECONDS = 15.0
#: After so many workers that died before they answered, a node is not used any more.
_MAX_STILLBORN = 3
#: How long a worker waits for a message before it answers that there is none.
_MAIL_SECONDS = 10.0


@attrs.define(eq=False)
class _Actor:
    name: str
    node: Node
    handle: Any
    mail: Any = None  # the messages that were asked for
    known: int = 0  # how many messages have arrived
    greeted: bool = False  # whether it has answered: it is running
    keys: set[str] = attrs.field(factory=set)  # the steps that it is running
    alone: bool = False  # whether these must run alone on their node
    at_work: int = 1
    died: float | None = None  # when its death was noticed
    reason: str = ""


class RayWorkers:
    """Up to `jobs` workers on the nodes of a cluster, as many as fit; see `WorkerGroup` for the methods.

    `announce` is called with what is done before the first step, `release` when the workers are closed.
    """

    def __init__(
        self,
        settings: Settings,
        options: RayOptions,
        needs: NodeNeeds,
        jobs: int,
        announce: Callable[[str], None] = lambda doing: None,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        announce("connecting to the Ray cluster")
        self._release = release
        self._disconnect = connect(options)
        self._ray = import_ray()
        self._folder = needs.folder
        self._jobs = jobs
        self._command = RUN
        self._actors: list[_Actor] = []
        self._started: Counter[str] = Counter()  # workers, by node
        self._stillborn: Counter[str] = Counter()  # those that died before they answered
        self._last_look = time.monotonic()
        self._head_answers = True
        self._alone = False  # whether no node was left at the last look
        try:
            self._nodes = Nodes(options, needs)
            announce("checking the nodes of the Ray cluster")
            self._told: list[Message] = [StepWarning("", problem) for problem in self._nodes.require_some()]
            share = round(1 / self._nodes.gpus) if self._nodes.gpus else 1
            self._settings = attrs.evolve(settings, jobs=share, threads=max(1, int(options.cpus)))
            announce("starting workers on the Ray cluster")
            self._hire()
        except BaseException:
            self.close()
            raise
        nodes = ", ".join(f"{node.name} ({node.slots})" for node in self._nodes.usable.values())
        self._told.append(LogMessage(f"nodes of the Ray cluster, and the workers that fit on each: {nodes}"))

    @property
    def has_capacity(self) -> bool:
        return self._idle() is not None

    @property
    def has_quiet_machine(self) -> bool:
        return self._idle(alone=True) is not None

    @property
    def may_grow(self) -> bool:
        return True  # nodes may join a cluster at any time

    def submit(self, tasks: Sequence[Task]) -> str:
        actor = self._idle(alone=tasks[0].runs_alone)
        if actor is None:
            raise RuntimeError("no worker is idle")
        actor.keys, actor.alone = {task.step.key for task in tasks}, tasks[0].runs_alone
        actor.handle.submit.remote(tasks)
        self._announce_work()
        return actor.name

    def poll(self, timeout: float) -> list[Message]:
        messages, self._told = self._told, []
        self._look()
        waiting = [actor.mail for actor in self._actors if actor.died is None]
        arrived = set[Any]()
        if waiting:
            self._ray.wait(waiting, num_returns=1, timeout=0 if messages else timeout)
            arrived.update(self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0])
        elif not messages:
            time.sleep(timeout)
        for actor in [*self._actors]:
            if actor.died is not None:
                messages += self._bury(actor)
            elif actor.mail in arrived:
                messages += self._read(actor)
        if messages:
            self._announce_work()
        return messages

    def set_command(self, command: int) -> None:
        self._command = command
        for actor in self._actors:
            actor.handle.set_command.remote(command)

    def close(self) -> None:
        for actor in self._actors if self._head_answers else ():
            self._ray.kill(actor.handle)
        self._actors.clear()
        self._release()
        self._disconnect()

    def _idle(self, alone: bool = False) -> _Actor | None:
        """An idle worker on the node where the smallest share of the slots is busy; `alone`: where none is."""
        busy = Counter(actor.node.id for actor in self._actors if actor.keys)
        closed = {actor.node.id for actor in self._actors if actor.keys and (alone or actor.alone)}
        idle = [
            actor
            for actor in self._actors
            if actor.greeted and not actor.keys and actor.died is None and actor.node.id not in closed
        ]
        return min(idle, key=lambda actor: busy[actor.node.id] / actor.node.slots, default=None)

    def _announce_work(self) -> None:
        """Tell the workers that run steps how many of them share their node, if that has changed."""
        busy = Counter(actor.node.id for actor in self._actors if actor.keys)
        for actor in self._actors:
            if actor.keys and actor.at_work != busy[actor.node.id]:
                actor.at_work = busy[actor.node.id]
                actor.handle.set_at_work.remote(actor.at_work)

    def _hire(self) -> None:
        """Start workers where they fit, on the emptiest node first."""
        while len(self._actors) < self._jobs:
            count = Counter(actor.node.id for actor in self._actors)
            free = [node for node in self._nodes.usable.values() if count[node.id] < node.slots]
            if not free:
                return
            node = min(free, key=lambda node: count[node.id] / node.slots)
            self._started[node.id] += 1
            handle = (
                self._ray.remote(RemoteWorker)
                .options(
                    num_cpus=self._nodes.cpus,
                    num_gpus=self._nodes.gpus,
                    max_concurrency=3,  # while it waits for messages, it is told to pause or to stop
                    scheduling_strategy=self._nodes.on(node.id),
                )
                .remote(self._settings, self._folder)
            )
            actor = _Actor(f"{node.name}, worker {self._started[node.id]}", node, handle)
            if self._command != RUN:
                handle.set_command.remote(self._command)
            actor.mail = handle.messages.remote(0, 0.0)
            self._actors.append(actor)

    def _look(self) -> None:
        """Look now and then for nodes that have joined the cluster, or left it."""
        if time.monotonic() - self._last_look < LOOK_SECONDS:
            return
        self._last_look = time.monotonic()
        self._head_answers = self._nodes.head_answers()
        if not self._head_answers:
            return
        self._told += [StepWarning("", problem) for problem in self._nodes.look()]
        if not self._nodes.usable and not self._alone:
            self._told.append(LogMessage("no node of the Ray cluster is left: waiting for one to join it"))
        self._alone = not self._nodes.usable
        self._hire()

    def _read(self, actor: _Actor) -> list[Message]:
        """The messages of a worker that have arrived; if it has died, what that means for its steps."""
        errors = self._ray.exceptions
        try:
            messages: list[Message] = self._ray.get(actor.mail)
        except errors.ActorUnavailableError:  # a call was lost on its way, or the node is about to be
            messages = []
        except errors.RayError as error:
            actor.died, actor.reason = time.monotonic(), _reason(error)
            return self._bury(actor)
        actor.greeted = True
        actor.known += len(messages)
        for message in messages:
            if isinstance(message, Outcome):
                actor.keys.discard(message.key)
        actor.mail = actor.handle.messages.remote(actor.known, _MAIL_SECONDS)
        return messages

    def _bury(self, actor: _Actor) -> list[Message]:
        """Once it is known whether a dead worker's node is lost too: what is to become of its steps."""
        if not self._head_answers:
            return []
        node_lost = not self._nodes.is_alive(actor.node.id)
        if not node_lost and actor.keys and time.monotonic() - (actor.died or 0.0) < _PATIENCE_SECONDS:
            return []
        self._actors.remove(actor)
        self._ray.kill(actor.handle)
        if node_lost:
            self._nodes.usable.pop(actor.node.id, None)
            return [NodeLost(key, actor.node.name) for key in sorted(actor.keys)]
        if not actor.greeted:
            return [StepWarning("", self._could_not_start(actor))]
        return [WorkerLost(key, f"its worker on {actor.node.name} {actor.reason}") for key in sorted(actor.keys)]

    def _could_not_start(self, actor: _Actor) -> str:
        """What to say of a worker that has died before it answered; a node where this goes on is not used any more."""
        self._stillborn[actor.node.id] += 1
        told = f"a worker on {actor.node.name} could not start: it {actor.reason}"
        if self._stillborn[actor.node.id] < _MAX_STILLBORN:
            return told
        self._nodes.refuse(actor.node.id)
        return f"{told}; the node is not used any more"


def _reason(error: Exception) -> str:
    """How a worker ended, as the end of a sentence."""
    if "OutOfMemory" in type(error).__name__:
        return "was killed: the node had run out of memory"
    cause = getattr(error, "cause", None)
    return f"died of {type(cause).__name__}: {cause}" if cause is not None else "died"
