"""The processes that decode images for one process, and what was asked of them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any

import attrs

import tickdsl
from tickdsl.errors import TickdslError

_MODULE = "tickdsl.training.data.streaming.decoder_process"
_MAX_PROCESSES = 8

Reply = dict[str, Any]


@attrs.frozen(eq=False)
class _Task:
    request: bytes
    buffer: memoryview | None
    future: Future[Reply]


class DecoderPool:
    """Processes that decode images, each with a thread that waits for it.

    A process that dies is replaced, and gets its request once more; if that kills it too, the request fails. The
    processes ignore Ctrl-C, and end as soon as this process does, however it does.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True, name="decoder") for _ in range(processes)]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Mapping[str, Any], buffer: memoryview | None = None) -> Future[Reply]:
        """Ask for something (see `decoder_process`). buffer: where the pixels go, exactly as large as they are.

        The future's result is the reply; it raises TickdslError if an image cannot be read.
        """
        future: Future[Reply] = Future()
        self._tasks.put(_Task(json.dumps(request).encode() + b"\n", buffer, future))
        return future

    def close(self) -> None:
        """End the processes."""
        self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        with self._lock:
            children = list(self._children)
        for child in children:
            child.kill()
            child.wait()
        for thread in self._threads:
            thread.join(5)

    def _work(self) -> None:
        child: subprocess.Popen[bytes] | None = None
        while (task := self._tasks.get()) is not None and not self._closed:
            if not task.future.set_running_or_notify_cancel():
                continue
            for attempt in (1, 2):
                try:
                    child = child or self._start()
                    reply = _exchange(child, task)
                except (OSError, EOFError, ValueError) as error:
                    self._forget(child)
                    child = None
                    if attempt == 2 or self._closed:
                        task.future.set_exception(_lost(error))
                else:
                    _settle(task.future, reply)
                    break
        self._forget(child)

    def _start(self) -> subprocess.Popen[bytes]:
        root = str(Path(tickdsl.__file__).parents[1])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        with self._lock:
            self._children.append(child)
        return child

    def _forget(self, child: subprocess.Popen[bytes] | None) -> None:
        if child is None:
            return
        with self._lock:
            self._children = [other for other in self._children if other is not child]
        child.kill()
        child.wait()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not sent is lost with the process
                    stream.close()


def _settle(future: Future[Reply], reply: Reply) -> None:
    if "error" in reply:
        future.set_exception(TickdslError(reply["error"], reply["hint"]))
    else:
        future.set_result(reply)


def _lost(error: Exception) -> TickdslError:
    reason = str(error) or "it ended without an answer"
    return TickdslError(
        f"a process that decodes images was lost, twice: {reason}",
        "if the machine ran out of memory, use fewer --jobs or smaller images",
    )


def _exchange(child: subprocess.Popen[bytes], task: _Task) -> Reply:
    """Send a request and read its reply. Raises OSError, EOFError or ValueError if the process is lost."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(task.request)
    child.stdin.flush()
    line = child.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    reply: Reply = json.loads(line)
    count = reply["bytes"]
    if count:
        if task.buffer is None or len(task.buffer) != count:
            raise ValueError(f"it sent {count} bytes")
        _read_into(child.stdout, task.buffer)
    return reply


def _read_into(stream: IO[bytes], buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = stream.readinto(buffer[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count


_pools: dict[int, DecoderPool] = {}
_jobs = 1


def share_cores(jobs: int) -> None:
    """Say how many jobs share the machine's cores, before the first image is decoded in this process."""
    global _jobs
    _jobs = max(1, jobs)


def decoder_pool() -> DecoderPool:
    """The pool of this process, started when it is first used; a forked process gets its own."""
    pool = _pools.get(os.getpid())
    if pool is None:
        _pools.clear()
        pool = _pools[os.getpid()] = DecoderPool(max(1, min(_MAX_PROCESSES, _cores() // _jobs)))
        atexit.register(pool.close)
    return pool


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every system
        return os.cpu_count() or 1
