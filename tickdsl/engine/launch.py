"""Launch a run of a plan: create its folder, start its workers, write its events, handle signals."""

from __future__ import annotations

import json
import os
import platform
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import attrs

from tickdsl import __version__
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
from tickdsl.engine.layers import network_events
from tickdsl.engine.machine.heartbeat import heartbeat
from tickdsl.engine.machine.job_limits import default_jobs, default_stack, threads_per_job
from tickdsl.engine.machine.precision import require_precisions
from tickdsl.engine.prepare_study import prepare_study
from tickdsl.engine.scheduler.event_builders import plan_resolved_event
from tickdsl.engine.scheduler.exit_codes import CANNOT_RUN, CRASHED, INTERRUPTED, OK, STEP_FAILED, STOPPED
from tickdsl.engine.scheduler.interpreter import Interpreter
from tickdsl.engine.scheduler.step_cost import step_cost
from tickdsl.engine.steps.settings import Settings
from tickdsl.engine.steps.surroundings import require_equal_devices
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.engine.workers.worker_group import ENDING_SIGNALS, WorkerGroup
from tickdsl.errors import TickdslError
from tickdsl.patient_reads import VISIBILITY_SECONDS
from tickdsl.plan.model import Plan, as_json
from tickdsl.plan.study import Study
from tickdsl.plugins import code_allowed
from tickdsl.plurals import agreeing, plural
from tickdsl.records import events
from tickdsl.records.bucket_cleaning import taking_part
from tickdsl.records.bucket_location import cached_bucket, store_name
from tickdsl.records.bucket_runs import sharing_run
from tickdsl.records.bucket_store import open_store
from tickdsl.records.control import ControlReader
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import EventWriter, read_events
from tickdsl.records.files import write_atomically
from tickdsl.records.generations import join_generation
from tickdsl.records.paths import RunPaths, new_run
from tickdsl.records.process import Process
from tickdsl.records.shared_clock import clock_of
from tickdsl.records.store import Store
from tickdsl.records.transfers import TRANSFERS
from tickdsl.training.device_choice import Device, devices_in_words, loaded, resolve_devices, torch_version

_STATUS = {OK: "ok", STOPPED: "stopped", INTERRUPTED: "interrupted"}  # with all other codes, it failed
#: Threads that launch runs in one process take turns: torch's random state, threads and layouts are the process's.
_TURN = threading.RLock()


@attrs.frozen
class LaunchOptions:
    """How to run a plan; nothing here changes the key of a result.

    `jobs` None uses the default of the machine, or what fits on the cluster. `workers` None: processes of this machine.
    `gpus_per_training`: how many GPUs, or on a CPU processes, share the batches of one training. `stack` None stacks as
    many trainings as is measured to be faster.
    `deterministic` gives a run on CUDA the same bits each time, one training at a time in each job, since stacked ones
    differ in their last bits from single ones. `fresh` runs every step again, even if its result is stored, except
    those that an unfinished fresh run of the same steps has made; `start_over` runs these again too. `folder` is the
    existing folder of the run; None creates one in `out`. `worker` is the name of an engine that shares that folder
    with others: its events go to a folder of their own in it. `argv` is the command of the user; the events name the
    saved plan in it if the plan cannot be read a second time. `announce` is called with what is done before the first
    event is written.
    """

    store: Path = Path(".tick/store")
    out: Path = Path("runs")
    data: Path = DEFAULT_DATA_DIR
    jobs: int | None = None
    workers: RayOptions | None = None
    gpus_per_training: int = 1
    stack: int | None = None
    device: str = "auto"
    fresh: bool = False
    start_over: bool = False
    deterministic: bool = False
    checkpoint_seconds: float = 30.0
    folder: Path | None = None
    worker: str | None = None
    argv: tuple[str, ...] = ()
    announce: Callable[[str], None] = lambda doing: None


@attrs.frozen
class FinishedRun:
    """A run that has ended: its files, its exit code, and the error messages of its failed steps by step name."""

    paths: RunPaths
    exit: int
    failures: dict[str, str]


def launch(
    plan: Plan, text: str, options: LaunchOptions, listen: Callable[[EventRecord], None], notes: tuple[str, ...] = ()
) -> FinishedRun:
    """Run a plan; `text` is its source, `listen` receives every event when it is written.

    Of several threads that call this, one runs at a time.

    Raises TickdslError before the first step if the data, the device, the store or the output folder cannot be used.
    """
    with _TURN:
        try:
            return _launch(plan, text, options, listen, notes)
        finally:
            if options.workers is not None:
                from tickdsl.engine.workers.ray_cluster import disconnect

                disconnect()


def _launch(
    plan: Plan, text: str, options: LaunchOptions, listen: Callable[[EventRecord], None], notes: tuple[str, ...]
) -> FinishedRun:
    devices: Sequence[Device]
    TRANSFERS.take()  # of an earlier run in this process
    in_bucket = cached_bucket(options.store) is not None
    if in_bucket and options.fresh:
        name = store_name(options.store)
        raise TickdslError("--fresh is not for a store in a bucket", f"use another prefix: --store {name}-2")
    if options.workers is None:
        devices = resolve_devices(options.device)
    else:
        from tickdsl.engine.workers.ray_start import cluster_device

        devices = (cluster_device(options.workers, options.device, options.announce),)
    device = devices[0]
    options.announce(f"reading {_names(arm.data.name for arm in plan.arms)}")
    study = prepare_study(plan, options.data, device)
    warnings: list[str] = []
    generation = join_generation(options.store, study.graph, options.start_over) if options.fresh else None
    store = open_store(options.store, warnings.append, generation)
    store.look_up(study.graph)
    store.be_patient()
    possible = store.possible(study.graph)

    def is_stored(key: str) -> bool:
        return key in possible and key in store

    for each in devices:
        require_precisions((study.step(key) for key in study.graph if not is_stored(key)), each)
    require_equal_devices(plan, devices)
    groups: list[tuple[str, ...]] = [(str(each),) for each in devices]
    together = options.gpus_per_training > 1
    if together:
        from tickdsl.engine.machine import device_groups

        groups = device_groups.device_groups([loaded(each) for each in devices], options.gpus_per_training)
        missing = [study.step(key) for key in study.graph if not is_stored(key)]
        device_groups.require_large_batches(missing, options.gpus_per_training)
        warnings += device_groups.notes_on_groups([loaded(each) for each in devices], groups, options.stack)
        jobs = options.jobs or device_groups.default_groups(device.type, study, len(groups), options.gpus_per_training)
    elif options.workers is None:
        jobs = options.jobs or default_jobs(device.type, study, options.data, len(devices))
    else:
        jobs = options.jobs or max(1, study.trainings)
    if options.deterministic:
        warnings += _undetermined_results(study, store)
    settings = Settings(
        store=options.store.resolve(),
        data=options.data,
        device=str(device),
        threads=threads_per_job(plan, options.data, jobs * options.gpus_per_training),
        jobs=jobs,
        checkpoint_seconds=options.checkpoint_seconds,
        stack=1 if options.deterministic or together else options.stack,
        deterministic=options.deterministic,
        visibility_seconds=0.0 if in_bucket or not (options.workers or options.worker) else VISIBILITY_SECONDS,
        allow_code=code_allowed(),
        generation=generation,
    )
    paths = RunPaths(options.folder) if options.folder is not None else new_run(options.out, plan.name)
    own = paths if options.worker is None else paths.worker(options.worker)
    own.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(paths.plan, text.encode())
    write_atomically(paths.plan_json, _plan_json(plan, study))
    start_time = time.monotonic()
    # Requests that were made while this engine started count; those to an earlier engine of the same run do not.
    # A worker that joins others obeys what they obey.
    control = ControlReader(paths.control, skip_old=options.worker is None and _was_started(paths))
    clock = time.time if options.worker is None else clock_of(own.folder)
    with sharing_run(options.store, paths, options.worker, warnings.append), EventWriter(own.events, clock) as writer:
        emit_lock = threading.Lock()

        def emit(event: events.Event) -> None:
            with emit_lock:
                while warnings:
                    listen(writer.write(events.Warn(message=warnings.pop(0))))
                listen(writer.write(event))

        interpreter = Interpreter(
            study,
            store,
            emit,
            control,
            pause_note=f"which is paused; continue it with `tickdsl resume {shlex.quote(str(paths.folder.resolve()))}`",
            step_cost=step_cost(study, options.data),
            says_who_is_first=options.worker is None,
            visibility_seconds=settings.visibility_seconds,
            stack=settings.stack or default_stack(device.type),
        )

        def emit_phase(doing: str) -> None:
            emit(events.Phase(doing=doing))

        def start_workers() -> WorkerGroup:
            store.prepare_writing()
            if "torch" not in sys.modules:  # what is stored needs none
                emit_phase("loading torch")
            if options.workers is not None:
                from tickdsl.engine.workers.ray_start import start_on_cluster

                return start_on_cluster(settings, options.workers, study, loaded(device), jobs, emit_phase)
            from tickdsl.engine.workers.in_process import InProcessWorker
            from tickdsl.engine.workers.processes import WorkerPool

            emit_phase(f"starting {plural(jobs, 'worker')}")
            if jobs > 1 or together:  # several processes end together if one of them does
                leaders = [group[0] for group in groups]
                return WorkerPool(settings, jobs, leaders, dict(zip(leaders, groups, strict=True)))
            return InProcessWorker(settings, interpreter.poll_control, interpreter.handle_message)

        exit_code = STEP_FAILED
        message: str | None = None
        try:
            emit(_run_start(plan, paths, options, jobs, devices))
            with taking_part(options.store, own.folder, study.graph, lambda told: emit(events.Log(message=told))):
                store.look_up(study.graph)
                possible = store.possible(study.graph)
                emit(plan_resolved_event(study, is_stored, notes, store.metrics))
                if generation is not None and (number := generation.number_made):
                    emit(events.Log(message=f"continuing a --fresh run that has made {plural(number, 'step')} anew"))
                emit(events.Phase(doing=f"tracing {_names(arm.model.name for arm in plan.arms)}"))
                for network_event in network_events(plan, options.data):
                    emit(network_event)
                with heartbeat(emit, store.claims.renew), _signals_handled(interpreter):
                    exit_code = interpreter.run(start_workers)
                if generation is not None and exit_code == OK:
                    generation.finish()
            if interpreter.failures:
                message = f"{plural(len(interpreter.failures), 'step')} failed"
        except KeyboardInterrupt:
            exit_code, message = INTERRUPTED, "interrupted"
        except TickdslError as error:
            exit_code, message = CANNOT_RUN, error.message
            raise
        except Exception as error:
            exit_code, message = CRASHED, f"{type(error).__name__}: {error}"
            raise
        finally:
            if generation is not None:
                generation.leave()
            emit(
                events.RunEnd(
                    status=_STATUS.get(exit_code, "failed"),
                    seconds=time.monotonic() - start_time,
                    exit=exit_code,
                    message=message,
                )
            )
    return FinishedRun(paths, exit_code, interpreter.failures)


def _undetermined_results(study: Study, store: Store) -> list[str]:
    """A warning if stored results of a GPU, made without `deterministic`, will be used."""
    made = [store.get(key).data["made"] for key in study.graph if key in store]
    count = sum(record["device"].startswith("cuda") and not record.get("deterministic") for record in made)
    if not count:
        return []
    return [
        f"{plural(count, 'stored result')} of a GPU {agreeing(count, 'was')} made without --deterministic; "
        "use --fresh to make them anew"
    ]


def _names(names: Iterable[str]) -> str:
    """Up to three different names, for an announcement."""
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more


def _was_started(paths: RunPaths) -> bool:
    """Whether an earlier engine of this run has written events of its own."""
    return paths.events.is_file() and any(isinstance(r.event, events.RunStart) for r in read_events(paths.events))


def _plan_json(plan: Plan, study: Study) -> bytes:
    steps = [{"key": key, **study.step(key).parts} for key in study.graph]
    return json.dumps({"v": 1, "plan": as_json(plan), "steps": steps}, indent=1).encode()


def _run_start(
    plan: Plan, paths: RunPaths, options: LaunchOptions, jobs: int, devices: Sequence[Device]
) -> events.RunStart:
    process = Process.current()
    return events.RunStart(
        run=paths.folder.name,
        plan=plan.name,
        path=plan.path,
        argv=_repeatable(options.argv, plan.path, paths.plan),
        pid=os.getpid(),
        host=socket.gethostname(),
        boot=process.boot,
        versions={"tickdsl": __version__, "torch": torch_version(), "python": platform.python_version()},
        jobs=jobs,
        workers="" if options.workers is None else "ray",
        device=devices_in_words(devices),
        device_share=_device_share(options, jobs, devices),
        store=store_name(options.store),
    )


def _device_share(options: LaunchOptions, jobs: int, devices: Sequence[Device]) -> float:
    """The part of a device that each job has."""
    if devices[0].type == "cpu":
        return 1.0
    if options.workers is not None:
        return options.workers.gpus or 1.0
    return min(1.0, len(devices) / jobs)


def _repeatable(argv: tuple[str, ...], plan: str, saved_plan: Path) -> tuple[str, ...]:
    """The command `argv` with the saved plan in place of one that cannot be read a second time, such as a pipe."""
    path = Path(plan)
    if path.is_file() and Path("/dev") not in path.parents:  # /dev/stdin is a file while one is redirected to it
        return argv
    return tuple(str(saved_plan) if word == plan else word for word in argv)


def _may_handle(number: int) -> bool:
    """Whether a signal may end the run: nobody else uses it or has it ignored."""
    handler = signal.getsignal(number)
    if number == getattr(signal, "SIGUSR1", None):
        return handler == signal.SIG_DFL
    return handler not in (
        signal.SIG_IGN,
        None,
    )  # None: a handler of an embedding program, which could not be set again


@contextmanager
def _signals_handled(interpreter: Interpreter) -> Iterator[None]:
    """End the run at the next safe point on the first Ctrl-C, SIGTERM, SIGHUP or SIGUSR1, and at once on the second.

    SIGHUP (the terminal was closed) stays ignored under `nohup`, and SIGUSR1 does what a program that embeds this run
    has it do.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        interpreter.stop(INTERRUPTED if number == signal.SIGINT else STOPPED)

    try:
        previous = {number: signal.signal(number, on_signal) for number in ENDING_SIGNALS if _may_handle(number)}
    except ValueError:  # not the main thread: signals are the caller's business
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
