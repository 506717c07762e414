"""`tickdsl graph`: show the layers of a network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tickdsl.cli.arguments import EachNameOnce, Verbs, add_plan_options, add_verb, name_value, proper_share
from tickdsl.cli.output import OK, PLAN_ERRORS, colour, echo
from tickdsl.errors import TickdslError

if TYPE_CHECKING:
    from tickdsl.engine.network_specs import NetworkSpec


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    graph = add_verb(
        verbs,
        "graph",
        "show the layers of a network",
        "Show the layers of a network: which are coupled, which can be removed, what they cost.",
        (
            ("tickdsl graph resnet20 --at 50%", "preview the removal of half of every group"),
            ("tickdsl graph plans/card.plan", "show the networks of a plan"),
        ),
    )
    graph.add_argument(
        "subject",
        metavar="MODEL|PLAN|TICKET",
        nargs="?",
        help="name of a model, or a plan or ticket file; required unless --list",
    )
    graph.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="LIBRARY",
        help="list all models and exit; with timm or hf, the networks of that library (default: all models)",
    )
    graph.add_argument(
        "--on",
        metavar="DATA",
        help='data set that sets the image shape and the classes, e.g. cifar10 or "digits size=32" '
        "(default: the data set that the model is usually trained on)",
    )
    graph.add_argument(
        "--option",
        metavar="NAME=VALUE",
        action=EachNameOnce,
        default=[],
        type=name_value,
        help="option of the model, e.g. width=0.5; can be given several times (default: the model's defaults)",
    )
    graph.add_argument(
        "--at",
        metavar="SHARE",
        type=proper_share,
        help="preview the removal of this share of every group, e.g. 50%% (default: no preview)",
    )
    graph.add_argument("--full", action="store_true", help="print every layer instead of folding similar ones")
    form = graph.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the layers and the model graph as JSON")
    form.add_argument("--dot", action="store_true", help="print the layers as Graphviz source")
    form.add_argument("--svg", action="store_true", help="print the layers as an SVG drawing")
    add_plan_options(graph)
    graph.set_defaults(verb=_graph)


def _graph(arguments: argparse.Namespace) -> int:
    from tickdsl.console import SafeConsole
    from tickdsl.inspect import graph_drawing, graph_json, graph_text
    from tickdsl.inspect.uniform_pruning import uniform_preview

    if arguments.list is not None:
        if arguments.list:
            graph_text.print_library(arguments.list, SafeConsole())
        else:
            graph_text.print_models(SafeConsole())
        return OK
    if (ticket := _ticket(arguments)) is not None:
        return _print_ticket(arguments, ticket)
    specs = _subjects(arguments)
    if specs is None:
        return PLAN_ERRORS
    views = [subject.view() for subject in specs]
    previews = [None if arguments.at is None else uniform_preview(view, arguments.at) for view in views]
    if arguments.json:
        networks = [graph_json.as_json(*parts) for parts in zip(specs, views, previews, strict=True)]
        echo(json.dumps({"v": 1, "networks": networks}))
    elif arguments.dot or arguments.svg:
        if arguments.svg and len(specs) > 1:
            names = ", ".join(subject.title for subject in specs)
            raise TickdslError(
                f"--svg draws one network, but the plan has {len(specs)}: {names}", "name a model instead of the plan"
            )
        for subject, view in zip(specs, views, strict=True):
            echo((graph_drawing.as_svg if arguments.svg else graph_drawing.as_dot)(view, subject.title))
    else:
        console = SafeConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
        for subject, view, preview in zip(specs, views, previews, strict=True):
            graph_text.print_view(view, subject.title, preview, console, full=arguments.full, unit=subject.unit)
    return OK


def _ticket(arguments: argparse.Namespace) -> Path | None:
    """The path of the ticket to show; None for a model or a plan. Raises TickdslError for another exported file."""
    from tickdsl.pruning.ticket_header import is_ticket

    path = Path(arguments.subject or "")
    if path.suffix in (".onnx", ".pt2") and path.is_file():
        raise TickdslError(
            f"{path} is a program for other tools, which does not say what was pruned",
            f"export the ticket with --format ticket, or measure this file with `tickdsl evaluate {path} --on DATA`",
        )
    return path if path.suffix == ".safetensors" or (path.is_file() and is_ticket(path)) else None


def _print_ticket(arguments: argparse.Namespace, path: Path) -> int:
    from tickdsl.console import SafeConsole
    from tickdsl.inspect.ticket_layers import as_json, print_ticket, ticket_layers

    for option, given in (
        ("--on", arguments.on),
        ("--option", arguments.option),
        ("--at", arguments.at is not None),
        ("--dot", arguments.dot),
        ("--svg", arguments.svg),
        ("--set", arguments.set),
    ):
        if given:
            raise TickdslError(f"{option} does not apply to a ticket", "leave it out, or name the model of the ticket")
    shown = ticket_layers(path)
    if arguments.json:
        echo(json.dumps({"v": 1, "tickets": [as_json(shown)]}))
    else:
        print_ticket(shown, SafeConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120))
    return OK


def _subjects(arguments: argparse.Namespace) -> list[NetworkSpec] | None:
    """The networks to show; None if the plan has errors, which are printed."""
    from tickdsl.engine.network_specs import specs_of_plan
    from tickdsl.inspect.graph_subject import spec_of_model

    name = arguments.subject
    if name is None:
        raise TickdslError("no model or plan given", "list all models with `tickdsl graph --list`")
    if not name.endswith(".plan") and not Path(name).is_file():
        return [spec_of_model(name, arguments.option, arguments.on, arguments.data)]
    if arguments.on or arguments.option:
        raise TickdslError("--on and --option apply to models, not to plans", "edit the plan instead")
    from tickdsl.checks import check_file
    from tickdsl.lang.findings.render import render

    # Checks that need the network are skipped: the user may be here to look up a layer name that the plan gets wrong.
    report = check_file(name, dict(arguments.set), data=arguments.data, network=False)
    if report.errors:
        shown = [d for d in report.diagnostics if d.severity == "error"]
        echo(render(shown, colour=colour(sys.stderr)), file=sys.stderr, styled=True)
        return None
    return specs_of_plan(report.require_plan(), arguments.data)
