"""One run of a plan: its folder, its events, its workers, and what happens on Ctrl-C."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import attrs
import torch

from tickdsl import __version__
from tickdsl.engine.graphs import DATA
from tickdsl.engine.layers import networks
from tickdsl.engine.machine.heartbeat import heartbeat
from tickdsl.engine.machine.sharing import threads, usual_jobs, usual_stack
from tickdsl.engine.scheduler.announce import resolved
from tickdsl.engine.scheduler.interpreter import INTERRUPTED, OK, STEP_FAILED, STOPPED, Interpreter
from tickdsl.engine.scheduler.work import work
from tickdsl.engine.steps.context import Settings
from tickdsl.engine.study import prepare
from tickdsl.engine.workers.in_process import Inline, Workers
from tickdsl.engine.workers.processes import Pool
from tickdsl.errors import TickdslError
from tickdsl.plan.lower import Study
from tickdsl.plan.model import Plan, as_json
from tickdsl.plugins import code_allowed
from tickdsl.records import events
from tickdsl.records.control import ControlReader
from tickdsl.records.decode import Record
from tickdsl.records.files import write_whole
from tickdsl.records.journal import EventWriter
from tickdsl.records.paths import RunPaths, new_run
from tickdsl.records.process import Process
from tickdsl.records.store import Store
from tickdsl.training.devices import pick

_STATUS = {OK: "ok", STEP_FAILED: "failed", STOPPED: "stopped", INTERRUPTED: "interrupted"}


@attrs.frozen
class Options:
    """How to run, as opposed to what: none of it changes a result's key.

    `jobs` None: chosen here. `stack` None: as many trainings in one as pay. `folder` is the run's, made before; None: a
    new one in `out`. `argv` is the command that a person gave.
    """

    store: Path = Path(".tick/store")
    out: Path = Path("runs")
    data: Path = DATA
    jobs: int | None = None
    stack: int | None = None
    device: str = "auto"
    fresh: bool = False
    checkpoint_seconds: float = 30.0
    folder: Path | None = None
    argv: tuple[str, ...] = ()


@attrs.frozen
class Run:
    """A run that has ended."""

    paths: RunPaths
    exit: int
    failures: dict[str, str]


def launch(
    plan: Plan, text: str, options: Options, listen: Callable[[Record], None], notes: tuple[str, ...] = ()
) -> Run:
    """Carry a plan out; `listen` gets every event as it is written.

    Raises TickdslError before any work where the data, the device, the store or the output folder is unusable.
    """
    device = pick(options.device)
    study = prepare(plan, options.data, device)
    warnings: list[str] = []
    store = Store(options.store, warn=warnings.append)
    jobs = options.jobs or usual_jobs(device.type, study, options.data)
    settings = Settings(
        store=options.store.resolve(),
        data=options.data,
        device=str(device),
        threads=threads(plan, options.data, jobs),
        jobs=jobs,
        checkpoint_seconds=options.checkpoint_seconds,
        stack=options.stack,
        allow_code=code_allowed(),
    )
    paths = RunPaths(options.folder) if options.folder is not None else new_run(options.out, plan.name)
    write_whole(paths.plan, text.encode())
    write_whole(paths.plan_json, _plan_json(plan, study))
    began = time.monotonic()
    with EventWriter(paths.events) as writer:
        one_at_a_time = threading.Lock()

        def emit(event: events.Event) -> None:
            with one_at_a_time:
                while warnings:
                    listen(writer.write(events.Warn(message=warnings.pop(0))))
                listen(writer.write(event))

        interpreter = Interpreter(
            study,
            store,
            emit,
            ControlReader(paths.control),
            fresh=options.fresh,
            work=work(study, options.data),
            stack=options.stack or usual_stack(device.type),
        )

        def hire() -> Workers:
            return Pool(settings, jobs) if jobs > 1 else Inline(settings, interpreter.tick, interpreter.receive)

        code = STEP_FAILED
        message: str | None = None
        try:
            emit(_run_start(plan, paths, options, jobs, str(device)))
            emit(resolved(study, lambda key: key in store and not options.fresh, notes))
            for network in networks(plan, options.data):
                emit(network)
            with heartbeat(emit, store.claims.renew), _interruptible(interpreter):
                code = interpreter.run(hire)
            if interpreter.failures:
                message = f"{len(interpreter.failures)} steps failed"
        except KeyboardInterrupt:
            code, message = INTERRUPTED, "interrupted"
        except TickdslError as error:
            message = error.message
            raise
        finally:
            emit(events.RunEnd(status=_STATUS[code], seconds=time.monotonic() - began, exit=code, message=message))
    return Run(paths, code, interpreter.failures)


def _plan_json(plan: Plan, study: Study) -> bytes:
    steps = [{"key": key, **study.step(key).parts} for key in study.graph]
    return json.dumps({"v": 1, "plan": as_json(plan), "steps": steps}, indent=1).encode()


def _run_start(plan: Plan, paths: RunPaths, options: Options, jobs: int, device: str) -> events.RunStart:
    me = Process.current()
    return events.RunStart(
        run=paths.folder.name,
        plan=plan.name,
        path=plan.path,
        argv=options.argv,
        pid=os.getpid(),
        host=socket.gethostname(),
        boot=me.boot,
        versions={"tickdsl": __version__, "torch": torch.__version__, "python": platform.python_version()},
        jobs=jobs,
        device=device,
        store=str(options.store),
    )


@contextmanager
def _interruptible(interpreter: Interpreter) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run at the next safe point, the second at once."""

    def first(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        interpreter.stop(INTERRUPTED if number == signal.SIGINT else STOPPED)

    try:
        before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller owns the signals
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
