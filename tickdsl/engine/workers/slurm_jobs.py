"""Workers as jobs of Slurm: each is a `tickdsl worker` that shares the run. Loads no torch."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.paths import RunPaths

#: Slurm asks a job to end this long before it takes the machine away; a training saves its checkpoint meanwhile.
_SIGNAL_SECONDS = 120
#: How often a job may reach its time limit: each time it goes on where it was.
_MAX_TIMEOUTS = 1000
_POLL_SECONDS = 0.2
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+)(?::(?P<seconds>\d+))?")


@attrs.frozen
class SlurmOptions:
    """What each worker asks Slurm for; None leaves it to the cluster.

    gpus, cpus: of one worker. minutes: its time limit; a worker that reaches it is queued again. max_jobs: workers at
    the same time. parameters: further options of sbatch, such as `account` and `qos`.
    """

    partition: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    minutes: int = 240
    max_jobs: int = 32
    parameters: Mapping[str, str] = attrs.field(factory=dict)


class WorkerJob:
    """A job: runs the command of a worker. Preempted or out of time, it has the worker save, and is queued again."""

    def __init__(self, command: Sequence[str], folder: str) -> None:
        self.command = list(command)
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: threading.Thread | None = None

    def __call__(self) -> int:
        """Run the worker to its end; returns its exit code."""
        self._process = subprocess.Popen(self.command, cwd=self.folder)
        # Another thread waits: the signal that asks for a checkpoint interrupts this one, wherever it is.
        self._waiting = threading.Thread(target=self._process.wait, daemon=True)
        self._waiting.start()
        while self._waiting.is_alive():
            time.sleep(_POLL_SECONDS)
        return int(self._process.returncode)

    def checkpoint(self) -> Any:
        """Called by submitit when Slurm takes the machine away: what is submitted instead."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._waiting is not None:
            self._process.send_signal(signal.SIGTERM)
            while self._waiting.is_alive():
                time.sleep(_POLL_SECONDS)
        return DelayedSubmission(WorkerJob(self.command, self.folder))


def require_slurm() -> None:
    """Raise TickdslError if jobs cannot be submitted from this machine."""
    if importlib.util.find_spec("submitit") is None:
        raise TickdslError(
            "--workers slurm needs submitit, which is not installed", 'run `pip install "tickdsl[slurm]"`'
        )
    if shutil.which("sbatch") is None:
        raise TickdslError(
            "there is no Slurm on this machine: no `sbatch` is on the PATH",
            "start the run on a login node of the cluster, or workers by hand with `tickdsl worker`",
        )


def submit(
    options: SlurmOptions, command: Sequence[str], paths: RunPaths, count: int, cluster: str = "slurm"
) -> list[Any]:
    """Submit `count` workers that run the command in this working folder; returns the jobs of submitit.

    cluster: "slurm", or "local" for processes of this machine. Raises TickdslError if Slurm refuses.
    """
    import submitit

    executor = submitit.AutoExecutor(paths.folder / "slurm", cluster=cluster, slurm_max_num_timeout=_MAX_TIMEOUTS)
    wanted = {
        "name": paths.folder.name,
        "timeout_min": options.minutes,
        "gpus_per_node": options.gpus,
        "cpus_per_task": options.cpus,
        "slurm_partition": options.partition,
        "slurm_array_parallelism": options.max_jobs,
        "slurm_signal_delay_s": _SIGNAL_SECONDS,
        "slurm_additional_parameters": dict(options.parameters) or None,
    }
    executor.update_parameters(**{name: value for name, value in wanted.items() if value is not None})
    job = WorkerJob(command, str(Path.cwd()))
    try:
        with executor.batch():
            jobs = [executor.submit(job) for _ in range(count)]
    except Exception as error:  # submitit raises its own errors, and those of the command that it calls
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TickdslError(
            f"Slurm has not taken the jobs: {reason}", "look at --partition, --time and --slurm"
        ) from error
    return list(jobs)


def parse_minutes(text: str) -> int:
    """Slurm's ways to write a time, as minutes: `90`, `4:00:00`, `90:00`, `1-12:00`. Raises ValueError for others."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time: write 90 (minutes), 4:00:00 or 1-12:00:00")
    days, hours, minutes, seconds = (int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
    if match["days"] is not None and match["hours"] is None:
        hours, minutes = minutes, 0  # `1-12` are days and hours
    elif match["days"] is None and match["seconds"] is None and match["hours"] is not None:
        hours, minutes, seconds = 0, hours, minutes  # `90:00` are minutes and seconds
    total = days * 1440 + hours * 60 + minutes + (seconds + 59) // 60
    if not total:
        raise ValueError(f"{text!r} is no time: a worker needs some")
    return total
