"""Run a plan from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tickdsl.api.errors import failed_run, interrupted_run, stopped_run
from tickdsl.api.findings import PlanError
from tickdsl.api.plan_sources import SetValue, StrPath, data_folder, plan_source, set_texts
from tickdsl.api.progress import in_notebook, progress_listener, say
from tickdsl.api.results import Results
from tickdsl.api.run_record import RunRecord
from tickdsl.api.store_path import require_store_path
from tickdsl.api.torch_state import neutral_torch
from tickdsl.argument_types import require_path, require_whole
from tickdsl.errors import TickdslError
from tickdsl.plugins.permission import code_allowed_within
from tickdsl.printable import printable
from tickdsl.recorded_run import RecordedRun, require_compatible, run_and_record, write_final_report
from tickdsl.records.bucket_location import is_bucket, store_name

if TYPE_CHECKING:
    from tickdsl.checks import CheckReport
    from tickdsl.engine.workers.ray_options import RayOptions
    from tickdsl.lang.syntax import Source


def run(
    plan: StrPath,
    *,
    set: Mapping[str, SetValue] | None = None,
    only: str | Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    workers: str = "local",
    gpus_per_step: float | None = None,
    cpus_per_step: float | None = None,
    stack: int | Literal["auto"] = "auto",
    device: str = "auto",
    deterministic: bool = False,
    fresh: bool = False,
    start_over: bool = False,
    store: StrPath = ".tick/store",
    out: StrPath = "runs",
    data: StrPath | None = None,
    allow_code: bool = False,
    checkpoint_every: float = 30.0,
    tensorboard: bool = True,
    tracker: str | Sequence[str] | None = None,
    progress: bool = True,
) -> Results:
    """Run a plan, like `tickdsl run`, and return its results.

    Only what is not stored yet is run, so the same call continues a run that was interrupted, stopped or has failed.
    Scripts need no `if __name__ == "__main__"` guard.

    Args:
        plan: The path of a plan, or its text.
        set: Values for a `let` or `sweep` of the plan, by name: `{"budget": "40ep", "rate": [0.1, 0.2]}`.
        only: The arm to run, or several (default: all arms).
        seeds: Run with this number of seeds: those of the plan, then the next numbers (default: the plan's seeds).
        jobs: Steps to run at the same time, each in a process of its own; 1 runs them in this process (default: the
            number of cores, at most 8; on a GPU at most 4).
        workers: What runs the steps: "local" (processes of this machine), "ray" (the Ray cluster of this machine, or a
            new one) or "ray:HOST:PORT".
        gpus_per_step: With workers of Ray, the share of a GPU that each step gets (default: 1 on GPUs).
        cpus_per_step: With workers of Ray, the CPUs of a node that each step gets, and its threads (default: 1).
        stack: Train up to this number of networks of equal shape as one stacked network ("auto": on a GPU up to 8 if
            that is measured to be faster, on a CPU 1).
        device: "auto" (every GPU, else the CPU), "cpu", "cuda", "cuda:1" or "cuda:0,2".
        deterministic: On a GPU, get the same bits each time: slower, and no trainings are stacked.
        fresh: Run every step again, even if its result is stored. A fresh run that was stopped is continued.
        start_over: Run every step again, also those that an unfinished fresh run has made.
        store: The folder of the stored results, or a bucket such as `"s3://lab/tickets"`.
        out: The folder of the run folders.
        data: The folder of the data sets (default: `$TICKDSL_DATA` or `.tick/data`).
        allow_code: Whether the plan may run code that it names as `"package.module:factory"`.
        checkpoint_every: Seconds between checkpoints of a training.
        tensorboard: Whether to write TensorBoard files.
        tracker: "wandb" or "mlflow", or both, to pass values and results on to; they must be installed (default: none).
        progress: Whether to show warnings and progress: lines on standard error, in a notebook a bar. Without it,
            nothing is printed.

    Raises:
        PlanError: If the plan has errors; nothing was run.
        RunError: If steps have failed, or the run was stopped.
        KeyboardInterrupt: At Ctrl-C or the interrupt button of a notebook, once running trainings have saved a
            checkpoint; a second one ends them at once.
        TickdslError: If the plan, the data, the device or a folder cannot be used.
    """
    stacked = None if stack == "auto" else stack
    require_compatible(deterministic=deterministic, stack=stacked)
    for name, number in (("seeds", seeds), ("jobs", jobs), ("stack", stacked)):
        if number is not None:
            require_whole(number, name, 1)
    store_folder, out = require_store_path(store), require_path(out, "out")
    named = store_name(store_folder) if is_bucket(str(store)) else require_path(store, "store")
    cluster = _cluster(workers, gpus_per_step, cpus_per_step)
    from tickdsl.checks.plan_selection import select_arms, with_seeds

    trackers = [tracker] if isinstance(tracker, str) else list(tracker or ())
    if trackers:
        from tickdsl.trackers.backends import require_trackers

        require_trackers(trackers)
    source, overrides = plan_source(plan), set_texts(set)
    arms = [only] if isinstance(only, str) else only
    folder = data_folder(data)
    flags = {"store": named, "out": out, "data": folder, "device": device, "seeds": seeds, "fresh": fresh or start_over}
    flags |= {"deterministic": deterministic, "allow-code": allow_code}
    with code_allowed_within(allow_code):
        with neutral_torch():
            report = _checked(source, overrides, folder, seeds, say_findings=progress)
        selected = with_seeds(select_arms(report.require_plan(), arms), seeds)
        from tickdsl.engine.launch import LaunchOptions

        options = LaunchOptions(
            store=store_folder,
            out=out,
            data=folder,
            jobs=jobs,
            workers=cluster,
            stack=stacked,
            device=device,
            deterministic=deterministic,
            fresh=fresh or start_over,
            start_over=start_over,
            checkpoint_seconds=checkpoint_every,
            argv=_command_line(source.path, flags, overrides, arms),
        )
        warn = _warn if progress else _ignore
        with neutral_torch():  # which the import has loaded: one job trains in this process
            done = run_and_record(
                selected,
                source.text,
                options,
                progress_listener(progress),
                warn,
                tensorboard=tensorboard,
                trackers=trackers,
            )
            write_final_report(done, warn)
    return _results(done, RunRecord(done.paths, done.state, options.store, folder, allow_code))


def _warn(message: str) -> None:
    say(f"warning: {printable(message)}")


def _ignore(message: str) -> None:
    """Say nothing."""


def _cluster(workers: str, gpus: float | None, cpus: float | None) -> RayOptions | None:
    """The workers of a cluster; None for processes of this machine. Raises TickdslError for what makes no sense."""
    from tickdsl.engine.workers.ray_options import parse_workers, ray_options, require_ray

    for name, number in (("gpus_per_step", gpus), ("cpus_per_step", cpus)):
        if number is not None and not number > 0:
            raise TickdslError(f"{name}={number!r} is no number above 0", "leave it out")
    try:
        chosen = parse_workers(workers)
    except ValueError as error:
        raise TickdslError(str(error)) from None
    if chosen == "slurm":
        raise TickdslError("jobs of Slurm outlive this call", "submit them by `tickdsl run --workers slurm`")
    cluster = ray_options(chosen, gpus, cpus)
    require_ray(cluster)
    return cluster


def _checked(
    source: Source, overrides: Mapping[str, str], data: Path, seeds: int | None, *, say_findings: bool
) -> CheckReport:
    """The findings of a plan without errors; prints its warnings and notes if `say_findings`. Raises PlanError."""
    from tickdsl.checks.plan_selection import relevant_findings
    from tickdsl.checks.report import check_source
    from tickdsl.lang.findings.render import render
    from tickdsl.lang.reading.include import load_source

    report = check_source(source, lambda: load_source(source, overrides), data=data)
    findings = relevant_findings(report, seeds)
    if report.errors:
        raise PlanError(findings)
    # Notes would be noise in a notebook, which shows them as errors in red; `check` returns them.
    shown = [finding for finding in findings if finding.severity == "warning" or not in_notebook()]
    if say_findings and shown:
        say(render(shown, "concise"))
    return report


def _results(done: RecordedRun, record: RunRecord) -> Results:
    """The results of a run that has come to its end. Raises RunError or KeyboardInterrupt if it has not."""
    from tickdsl.engine.scheduler.exit_codes import INTERRUPTED, OK, STOPPED

    results = Results(record)
    if done.exit == OK:
        return results
    if done.exit == INTERRUPTED:
        raise interrupted_run()
    if done.exit == STOPPED:
        raise stopped_run(results)
    raise failed_run(results, [step for step in done.state.steps.values() if step.status == "failed"])


def _command_line(
    path: str, flags: Mapping[str, object], overrides: Mapping[str, str], only: Sequence[str] | None
) -> tuple[str, ...]:
    """The command that makes the same results; the events name the saved plan in it if the plan is a text.

    `flags` are the values of options by name; None and False leave an option out, and True is an option without value.
    """
    words = ["tickdsl", "run", path]
    for name, value in flags.items():
        if value is not None and value is not False:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    words += [word for name, text in overrides.items() for word in ("--set", f"{name}={text}")]
    return (*words, *(word for name in only or () for word in ("--only", name)))
