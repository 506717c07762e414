"""`tickdsl evaluate`: measure an exported file on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import attrs

from tickdsl.cli.arguments import Verbs, add_code_option, add_data_option, add_verb
from tickdsl.cli.output import OK, echo


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    evaluate = add_verb(
        verbs,
        "evaluate",
        "measure an exported file on a data set",
        "Measure the accuracy, the size and the latency of an exported file on the test images of a data set.",
        (
            ("tickdsl evaluate ticket.safetensors --on digits", "evaluate a ticket"),
            ("tickdsl evaluate card.onnx --on cifar10 --json", "evaluate an ONNX file, and print the figures as JSON"),
        ),
    )
    evaluate.add_argument("file", metavar="FILE", type=Path, help="a ticket, or a .pt2 or .onnx file")
    evaluate.add_argument(
        "--on",
        metavar="DATA",
        required=True,
        help='data set with its options as in a plan, e.g. digits or "folder path=photos size=32"; required',
    )
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_data_option(evaluate)
    add_code_option(evaluate)
    evaluate.set_defaults(verb=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
    from tickdsl.inspect.graph_subject import data_of_text
    from tickdsl.results.formatting import count, percent, quantity
    from tickdsl.results.scores import label, number
    from tickdsl.tickets.evaluating import evaluate_file
    from tickdsl.training.data import datasets

    data = data_of_text(arguments.on)
    dataset = datasets.load(data.name, root=arguments.data or DEFAULT_DATA_DIR, options=dict(data.options))
    found = evaluate_file(arguments.file, dataset, data.name)
    if arguments.json:
        shown = {**attrs.asdict(found), "path": str(found.path), "metric": found.metric.name}
        echo(json.dumps({"v": 1, **shown, "data": arguments.on}))
        return OK
    facts = [] if found.low is None else [f"95% interval {percent(found.low, 2)} to {percent(found.high, 2)}"]
    samples = f"{found.images:,} {'images' if found.low is not None else 'samples'}"
    stored = "" if found.stored is None else f"; stored in the file: {number(found.metric, found.stored)}"
    rows = [
        ("network", f"{found.network} ({found.format})"),
        (label(found.metric), f"{number(found.metric, found.score)} ({', '.join([*facts, samples])}{stored})"),
        ("parameters", count(found.params)),
        ("multiply-adds", count(found.macs)),
        ("bytes", quantity(found.bytes, "B")),
        ("latency, 1 image", quantity(found.latency, "s")),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        echo(f"{name:<{width}}  {text}")
    for note in found.notes:
        echo(f"note: {note}")
    return OK
