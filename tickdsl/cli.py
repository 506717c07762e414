"""The verbs. Each parses its arguments, calls one function and prints what it gives back.

Exit codes: 0 well, 1 the plan has errors, 2 usage or I/O, 3 a step failed, 4 stopped and resumable,
130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl import __version__
from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.check import Report
    from tickdsl.plan.model import Plan
    from tickdsl.records import Record
    from tickdsl.run.graph_subject import Subject

OK, PLAN_ERRORS, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words)
    arguments.command = shlex.join(["tickdsl", *words])
    try:
        code: int = arguments.verb(arguments)
        sys.stdout.flush()
        return code
    except TickdslError as error:
        print(f"tickdsl: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        _nobody_reads()
        return OK
    except OSError as error:
        with _unheard():
            print(f"tickdsl: the output cannot be written: {error.strerror or error}", file=sys.stderr)
        _nobody_reads()
        return USAGE
    except KeyboardInterrupt:
        print("tickdsl: interrupted", file=sys.stderr)
        return 130


def _nobody_reads() -> None:
    """The reader (head, less) has gone; keep the interpreter from complaining about that on its way out."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def _unheard(lost: type[OSError] = OSError) -> Iterator[None]:
    """What a run says is lost where nobody reads it; the run and its exit code are not."""
    try:
        yield
        sys.stdout.flush()
    except lost:
        _nobody_reads()


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tickdsl", description="Plans for pruning and lottery-ticket experiments.")
    top.add_argument("--version", action="version", version=f"tickdsl {__version__}")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)

    check = verbs.add_parser("check", help="find the mistakes in plans; trains nothing")
    check.add_argument("plans", nargs="+", metavar="FILE", type=Path)
    check.add_argument("--format", choices=("full", "concise", "json", "github"), default="full")
    check.add_argument("--strict", action="store_true", help="warnings count as errors")
    check.add_argument("--no-network", action="store_true", help="leave out what needs the traced network")
    _subject(check)
    check.set_defaults(verb=_check)

    plan = verbs.add_parser("plan", help="show the steps of a plan: what is shared, stored, still to train")
    plan.add_argument("plan", metavar="FILE", type=Path)
    plan.add_argument("--why", metavar="STEP", help="say which part of a step's key differs from what is stored")
    plan.add_argument("--json", action="store_true", help="print the resolved plan and its steps as JSON")
    plan.add_argument("--steps", action="store_true", help="list every single step")
    plan.add_argument("--only", metavar="ARM", action="append", help="only this arm (may be given several times)")
    plan.add_argument("--store", metavar="DIR", type=Path, default=Path(".tick/store"))
    _subject(plan)
    plan.set_defaults(verb=_plan)

    run = verbs.add_parser("run", help="carry a plan out")
    run.add_argument("plan", metavar="FILE", type=Path)
    run.add_argument("--store", metavar="DIR", type=Path, default=Path(".tick/store"), help="where results are kept")
    run.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are made")
    run.add_argument("--jobs", metavar="N", type=_positive, help="steps at a time (default: the cores; 1 on a GPU)")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument("--plain", action="store_true", help="progress as lines, also on a terminal")
    run.add_argument("--json", action="store_true", help="print results.json instead of the table")
    run.add_argument("--fresh", action="store_true", help="do every step again, whatever is stored")
    run.add_argument("--dry-run", action="store_true", help="show the steps, do nothing (as `tickdsl plan`)")
    run.add_argument("--only", metavar="ARM", action="append", help="only this arm (may be given several times)")
    run.add_argument(
        "--checkpoint-every", metavar="SECONDS", type=_seconds, default=30.0, help="how often trainings are saved"
    )
    _subject(run)
    run.set_defaults(verb=_run)

    graph = verbs.add_parser("graph", help="show a network's layers: what is coupled, what can go, what it costs")
    graph.add_argument("subject", metavar="MODEL|PLAN", nargs="?", help="a model's name, or a plan file")
    graph.add_argument("--list", action="store_true", help="name all models")
    graph.add_argument(
        "--on", metavar="DATA", help='the data set whose pictures it takes, e.g. cifar10, "digits size=32"'
    )
    graph.add_argument(
        "--option", metavar="NAME=VALUE", action="append", default=[], type=_assignment, help="e.g. width=0.5"
    )
    graph.add_argument("--at", metavar="SHARE", type=_share, help="preview that share of every group gone, e.g. 50%%")
    form = graph.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the layers and the whole graph as JSON")
    form.add_argument("--dot", action="store_true", help="print the layers for Graphviz")
    form.add_argument("--svg", action="store_true", help="print the layers as a drawing")
    _subject(graph)
    graph.set_defaults(verb=_graph)
    return top


def _subject(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=_assignment, help="replace a let or sweep"
    )
    verb.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("TICKDSL_DATA", ".tick/data")),
        help="where data sets lie (default: $TICKDSL_DATA or .tick/data)",
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0% and 100%")
    return share


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, e.g. --set budget=40ep")
    return name.strip(), value.strip()


# -- check


def _check(arguments: argparse.Namespace) -> int:
    from tickdsl.check import check_file
    from tickdsl.lang.render import as_dict, render

    code = OK
    everything = []
    for path in arguments.plans:
        try:
            report = check_file(path, dict(arguments.set), data=arguments.data, network=not arguments.no_network)
        except TickdslError as error:
            code = USAGE
            everything.append({"path": str(path), "severity": "error", "message": error.message, "help": error.hint})
            if arguments.format != "json":
                print(f"tickdsl: {error}", file=sys.stderr)
            continue
        if report.errors or (arguments.strict and report.warnings):
            code = max(code, PLAN_ERRORS)
        if arguments.format == "json":
            everything += [as_dict(d) for d in report.findings]
        elif report.findings:
            print(render(report.findings, arguments.format, colour=_colour(sys.stdout)))
        if arguments.format == "full":
            print(f"{path}: {_verdict(report)}")
    if arguments.format == "json":
        print(json.dumps(everything, indent=2, ensure_ascii=False))
    return code


def _verdict(report: Report) -> str:
    parts = [
        f"{number} {word}{'s' * (number != 1)}"
        for number, word in ((report.errors, "error"), (report.warnings, "warning"))
        if number
    ]
    return ", ".join(parts) or "no mistakes found"


def _colour(stream: object) -> bool:
    is_tty = getattr(stream, "isatty", lambda: False)()
    return bool(is_tty) and "NO_COLOR" not in os.environ and os.environ.get("TERM") not in ("", "dumb")


def _usable(arguments: argparse.Namespace, *, notes: bool) -> Plan | None:
    """The plan to work on, its findings told on standard error; None where it has errors."""
    from tickdsl.check import check_file
    from tickdsl.lang.render import render

    report = check_file(arguments.plan, dict(arguments.set), data=arguments.data)
    shown = [d for d in report.findings if d.severity == "error" or not report.errors]
    if report.errors:
        print(render(shown, colour=_colour(sys.stderr)), file=sys.stderr)
        print(f"{arguments.plan}: {_verdict(report)}; nothing was run", file=sys.stderr)
        return None
    if notes and shown:
        with _unheard():
            print(render(shown, "concise", colour=_colour(sys.stderr)), file=sys.stderr)
    plan = report.usable()
    return _only(plan, arguments.only) if arguments.only else plan


def _only(plan: Plan, names: Sequence[str]) -> Plan:
    import attrs

    from tickdsl.lang.diagnostics import did_you_mean, listing

    known = list(dict.fromkeys([*(arm.name for arm in plan.arms), *(arm.id for arm in plan.arms)]))
    for name in names:
        if name not in known:
            raise TickdslError(f"--only {name}: the plan has no such arm", did_you_mean(name, known) or listing(known))
    return attrs.evolve(plan, arms=tuple(arm for arm in plan.arms if arm.name in names or arm.id in names))


# -- plan


def _plan(arguments: argparse.Namespace) -> int:
    plan = _usable(arguments, notes=True)
    if plan is None:
        return PLAN_ERRORS
    from tickdsl.run import preview
    from tickdsl.run.study import prepare

    study = prepare(plan, arguments.data)
    if getattr(arguments, "why", None):
        print(preview.why(study, arguments.why, arguments.store))
    elif getattr(arguments, "json", False):
        print(json.dumps(preview.as_json(study, arguments.store), indent=1))
    else:
        preview.show(study, arguments.store, arguments.data, every_step=getattr(arguments, "steps", False))
    return OK


# -- graph


def _graph(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from tickdsl.run import graph_drawing, graph_json, graph_text
    from tickdsl.run.graph_view import uniform

    if arguments.list:
        graph_text.print_models(Console())
        return OK
    subjects = _subjects(arguments)
    if subjects is None:
        return PLAN_ERRORS
    views = [subject.view() for subject in subjects]
    previews = [None if arguments.at is None else uniform(view, arguments.at) for view in views]
    if arguments.json:
        networks = [graph_json.as_json(*parts) for parts in zip(subjects, views, previews, strict=True)]
        print(json.dumps({"v": 1, "networks": networks}))
    elif arguments.dot or arguments.svg:
        if arguments.svg and len(subjects) > 1:
            names = ", ".join(subject.title for subject in subjects)
            raise TickdslError(f"a drawing shows one network; the plan has {names}", "name a model instead of the plan")
        for subject, view in zip(subjects, views, strict=True):
            print((graph_drawing.as_svg if arguments.svg else graph_drawing.as_dot)(view, subject.title))
    else:
        console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
        for subject, view, preview in zip(subjects, views, previews, strict=True):
            graph_text.print_view(view, subject.title, preview, console)
    return OK


def _subjects(arguments: argparse.Namespace) -> list[Subject] | None:
    """The networks to show; None where the plan has errors, which are told."""
    from tickdsl.run.graph_subject import of_model, of_plan

    name = arguments.subject
    if name is None:
        raise TickdslError("name a model or a plan", "`tickdsl graph --list` names all models")
    if not name.endswith(".plan") and not Path(name).is_file():
        return [of_model(name, arguments.option, arguments.on, arguments.data)]
    if arguments.on or arguments.option:
        raise TickdslError("--on and --option belong to a model; a plan says them itself", "change the plan")
    from tickdsl.check import check_file
    from tickdsl.lang.render import render

    # What only the network tells is left out: whoever looks for a layer's name may have got it wrong.
    report = check_file(name, dict(arguments.set), data=arguments.data, network=False)
    if report.errors:
        shown = [d for d in report.findings if d.severity == "error"]
        print(render(shown, colour=_colour(sys.stderr)), file=sys.stderr)
        return None
    return of_plan(report.usable(), arguments.data)


# -- run


def _run(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        arguments.json = False
        return _plan(arguments)
    plan = _usable(arguments, notes=True)
    if plan is None:
        return PLAN_ERRORS
    from rich.console import Console

    from tickdsl.lang.parse import read
    from tickdsl.results.export import write_results
    from tickdsl.results.fold import Fold
    from tickdsl.results.plain import PlainProgress
    from tickdsl.results.table import print_results
    from tickdsl.run.interpreter import INTERRUPTED, STOPPED
    from tickdsl.run.launch import Options, launch

    progress = PlainProgress(sys.stderr, live=False if arguments.plain else None)
    fold = Fold()
    options = Options(
        store=arguments.store,
        out=arguments.out,
        data=arguments.data,
        jobs=arguments.jobs,
        device=arguments.device,
        fresh=arguments.fresh,
        checkpoint_seconds=arguments.checkpoint_every,
    )

    def listen(record: Record) -> None:
        fold.add(record)
        with _unheard():
            progress.show(record)

    run = launch(plan, read(arguments.plan).text, options, listen)
    write_results(fold.state, run.paths)
    with _unheard(BrokenPipeError):
        if arguments.json:
            print(run.paths.results_json.read_text(), end="")
        else:
            console = Console()
            with console.capture() as table:  # printed here: rich ends the process where a reader has gone
                print_results(fold.state, console)
            print(table.get(), end="")
    with _unheard():
        for name, error in run.failures.items():
            print(f"tickdsl: step {name} failed: {error}", file=sys.stderr)
        if run.failures:
            print(f"tickdsl: what happened is in {run.paths.events}", file=sys.stderr)
        if run.exit in (STOPPED, INTERRUPTED):
            print(f"tickdsl: to go on from here: {arguments.command}", file=sys.stderr)
        print(f"results: {run.paths.folder}", file=sys.stderr)
    return run.exit


if __name__ == "__main__":
    sys.exit(main())
