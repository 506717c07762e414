"""Run a plan in this process, as `run` and `worker` do, and the options of both."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tickdsl.cli.arguments import device_names, non_negative_seconds, positive_int, stack_size
from tickdsl.cli.closing import closing_message, results_table
from tickdsl.cli.engine import record_phase, user_arguments
from tickdsl.cli.output import echo, ignore_closed_output
from tickdsl.cli.plan_loading import CheckedPlan
from tickdsl.engine.workers.ray_options import RayOptions, ray_options
from tickdsl.recorded_run import RecordedRun, run_and_record, write_final_report
from tickdsl.records.bucket_runs import share_run
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import Phase


def add_jobs_option(verb: argparse.ArgumentParser, default: str) -> None:
    """Add `--jobs`."""
    verb.add_argument(
        "--jobs", metavar="N", type=positive_int, help=f"steps to run at the same time (default: {default})"
    )


def add_device_options(verb: argparse.ArgumentParser) -> None:
    """Add `--gpus-per-training`, `--stack`, `--device` and `--deterministic`."""
    verb.add_argument(
        "--gpus-per-training",
        metavar="N",
        type=positive_int,
        default=1,
        help="GPUs that share every batch of one training, with the same results up to rounding; without a GPU, that "
        "many processes (default: 1)",
    )
    verb.add_argument(
        "--stack",
        metavar="N|auto",
        type=stack_size,
        default=None,
        help="train up to N networks of equal shape as one stacked network "
        "(default: auto: on a GPU up to 8 if that is measured to be faster, on a CPU 1)",
    )
    verb.add_argument(
        "--device",
        metavar="DEVICE",
        type=device_names,
        default="auto",
        help="devices to train on: auto (every GPU, else the CPU), cpu, cuda, cuda:1 or cuda:0,2 (default: auto)",
    )
    verb.add_argument(
        "--deterministic",
        action="store_true",
        help="on a GPU, get the same bits each time: slower, and no trainings are stacked (a CPU always does)",
    )


def add_checkpoint_option(verb: argparse.ArgumentParser) -> None:
    """Add `--checkpoint-every`."""
    verb.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        type=non_negative_seconds,
        default=30.0,
        help="seconds between checkpoints of a training (default: 30)",
    )


def chosen_ray_options(arguments: argparse.Namespace) -> RayOptions | None:
    """The workers of Ray that the options ask for; None for others."""
    return ray_options(arguments.workers, arguments.gpus_per_step, arguments.cpus_per_step, arguments.gpus_per_training)


def _recorded_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments as the events name them: whoever repeats them continues a run, a second `--fresh` would not."""
    return tuple(
        word for index, word in enumerate(arguments) if word != "--fresh" or "--fresh" not in arguments[:index]
    )


def run_in_process(arguments: argparse.Namespace, checked: CheckedPlan, worker: str | None = None) -> int:
    """Run the plan in this process and return the exit code of the run.

    worker: the name under which it shares the folder `arguments.into` with others.
    """
    from tickdsl.results.plain_progress import PlainProgress

    live = False if arguments.plain or arguments.into is not None else None
    progress = PlainProgress(sys.stderr, live=live)

    def announce(doing: str) -> None:
        if arguments.into is not None and worker is None:
            record_phase(arguments.into, doing)
        with ignore_closed_output():
            progress.show(EventRecord(0, time.time(), Phase(doing=doing)))

    from tickdsl.engine.launch import LaunchOptions

    command = ("tickdsl", *_recorded_arguments(user_arguments(arguments.argv)))
    options = LaunchOptions(
        store=arguments.store,
        out=arguments.out,
        data=arguments.data,
        jobs=arguments.jobs,
        workers=chosen_ray_options(arguments),
        gpus_per_training=arguments.gpus_per_training,
        stack=arguments.stack,
        device=arguments.device,
        fresh=arguments.fresh > 0,
        start_over=arguments.fresh > 1,
        deterministic=arguments.deterministic,
        checkpoint_seconds=arguments.checkpoint_every,
        folder=arguments.into,
        worker=worker,
        argv=command,
        announce=announce,
    )

    def listen(record: EventRecord) -> None:
        with ignore_closed_output():
            progress.show(record)

    def warn(message: str) -> None:
        with ignore_closed_output():
            echo(f"tickdsl: warning: {message}", file=sys.stderr)

    def show(run: RecordedRun) -> None:
        with ignore_closed_output(BrokenPipeError):
            if arguments.json:
                echo(run.paths.results_json.read_text(), end="")
            else:
                echo(results_table(run.state), end="", styled=True)

    run = run_and_record(
        checked.plan,
        checked.text,
        options,
        listen,
        warn,
        tensorboard=not arguments.no_tensorboard,
        trackers=arguments.tracker,
        show=show,
    )
    write_final_report(run, warn)  # last: drawing its figures takes a moment
    share_run(arguments.store, run.paths, warn)
    with ignore_closed_output():
        echo(closing_message(run.state, run.paths), file=sys.stderr)
    return run.exit
