"""The processes that a worker hires to train one network together with it, one on each device of its group."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

import attrs
import torch

from tickdsl.engine.messages import Task
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.workers.child_start import child_processes, clean_start, signals_blocked
from tickdsl.engine.workers.follower import GO, LEAVE, Followed, follow
from tickdsl.training.parallel.ranks import Ranks, join, open_store

#: How long the others may take to end a task after one of them has failed, or has left it, in seconds.
GRACE_SECONDS = 30.0


@attrs.frozen(eq=False)
class _Follower:
    rank: int
    process: Any
    pipe: Connection
    life: Connection


class RankGroup:
    """A worker and its followers, which are started for the first task and kept for the next ones.

    The worker is process 0: it alone saves checkpoints and results, and reports. The followers run the same step, and
    wait for it before every optimiser step, so that a pause or a stop of the worker is one of all. They end when it
    does, however it does.

    A worker cannot go on without one of its followers, since it may be waiting for it in an operation that never ends.
    So if one dies, `on_lost` is called with how, and this process ends: to the run, the worker has crashed. If one
    fails and the worker does not within GRACE_SECONDS, `on_failed` is called, and this process ends as well. Both are
    called in another thread.
    """

    def __init__(
        self, settings: Settings, on_lost: Callable[[str], None], on_failed: Callable[[Followed], None]
    ) -> None:
        self._settings, self._on_lost, self._on_failed = settings, on_lost, on_failed
        self._followers: list[_Follower] = []
        self._ranks: Ranks | None = None
        self._ended = threading.Condition()
        self._endings: dict[int, Followed] = {}  # of the current task, by rank
        self._task_number = 0
        self._running = False
        self.is_broken = False

    @property
    def is_running(self) -> bool:
        """Whether all processes are running a task."""
        return self._running

    @contextmanager
    def running(self, task: Task) -> Iterator[Ranks]:
        """Within it, the followers run a task, which this process has to run too."""
        ranks = self._ranks or self._hire()
        with self._ended:
            self._endings.clear()
            self._task_number += 1
            self._running = True
        self._tell(task)
        try:
            yield ranks
        except BaseException:
            self._tell(LEAVE)
            raise
        finally:
            self._running = False
            self._wait_for_followers()

    def next_step(self) -> None:
        """Let the followers take the next optimiser step."""
        self._tell(GO)

    def _tell(self, message: Task | int) -> None:
        for follower in self._followers:
            with contextlib.suppress(OSError):  # the thread that watches it ends this process
                follower.pipe.send(message)

    def _hire(self) -> Ranks:
        size = len(self._settings.group)
        start = child_processes()
        for rank in range(1, size):
            settings = attrs.evolve(self._settings, device=self._settings.group[rank])
            ours, theirs = start.Pipe()
            life, their_life = start.Pipe()
            process = start.Process(target=follow, args=(settings, rank, theirs, their_life))
            with clean_start(), signals_blocked():
                process.start()
            theirs.close()
            their_life.close()
            self._followers.append(_Follower(rank, process, ours, life))
        threading.Thread(target=self._watch, daemon=True).start()
        store, port = open_store(size)
        for follower in self._followers:
            follower.pipe.send(port)
        self._ranks = join(store, 0, size, torch.device(self._settings.device))
        return self._ranks

    def _watch(self) -> None:
        """Collect what the followers say, until one of them is lost."""
        by_pipe = {follower.pipe: follower for follower in self._followers}
        while True:
            for pipe in wait(list(by_pipe)):
                follower = by_pipe[pipe]  # type: ignore[index]
                try:
                    ending = follower.pipe.recv()
                except (EOFError, OSError):
                    self._give_up_lost(follower)
                with self._ended:
                    self._endings[ending.rank] = ending
                    self._ended.notify()
                if ending.error is not None:
                    threading.Thread(target=self._watch_failed, args=(ending, self._task_number), daemon=True).start()

    def _give_up_lost(self, follower: _Follower) -> None:
        follower.process.join(GRACE_SECONDS)
        code = follower.process.exitcode or 0
        ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._on_lost(f"process {follower.rank + 1} of {len(self._followers) + 1} that trained it {ending}")
        os._exit(1)

    def _watch_failed(self, ending: Followed, task_number: int) -> None:
        """End this process if it does not end the task itself, since it waits for the process that has failed."""
        time.sleep(GRACE_SECONDS)
        if self._running and self._task_number == task_number:
            self._on_failed(ending)
            os._exit(1)

    def _wait_for_followers(self) -> None:
        """Wait until the followers have ended the task too. One that does not makes the group useless."""
        with self._ended:
            self._ended.wait_for(lambda: len(self._endings) == len(self._followers), GRACE_SECONDS)
            self.is_broken = self.is_broken or len(self._endings) < len(self._followers)
