"""`tickdsl evaluate`: measure an exported file on a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import attrs

from tickdsl.cli.arguments import Verbs, add_code_option, add_data_option, add_verb, store_location
from tickdsl.cli.output import OK, echo
from tickdsl.plurals import plural


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    evaluate = add_verb(
        verbs,
        "evaluate",
        "measure an exported file on a data set",
        "Measure an exported file on a test set: the metrics of its task, its size and its latency.",
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
    evaluate.add_argument(
        "--store",
        metavar="STORE",
        type=store_location,
        help="folder or bucket of the results, with the classifier that judged generated images (default: .tick/store)",
    )
    evaluate.add_argument("--json", action="store_true", help="print the figures as JSON")
    add_data_option(evaluate)
    add_code_option(evaluate)
    evaluate.set_defaults(verb=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
    from tickdsl.inspect.graph_subject import data_of_text
    from tickdsl.results.formatting import count, percent, quantity
    from tickdsl.tickets.evaluating import evaluate_file
    from tickdsl.tickets.verification import metric_value
    from tickdsl.training.catalogue.input_shapes import is_tokens
    from tickdsl.training.data import datasets
    from tickdsl.training.tasks import find_task

    data = data_of_text(arguments.on)
    dataset = datasets.load(data.name, root=arguments.data or DEFAULT_DATA_DIR, options=dict(data.options))
    found = evaluate_file(arguments.file, dataset, data.name, store=arguments.store)
    if arguments.json:
        echo(json.dumps({"v": 1, **attrs.asdict(found), "path": str(found.path), "data": arguments.on}))
        return OK
    single = "sequence" if is_tokens(dataset.shape) else "input" if dataset.has_floats else "image"
    kind = "sample" if dataset.named else single
    metrics = {metric.name: metric for metric in find_task(found.task).metrics}

    def value(name: str, number: float) -> str:
        return metric_value(metrics[name], number) if name in metrics else f"{number:.4g}"

    stored = "" if found.stored is None else f"; stored in the file: {value(found.metric, found.stored)}"
    interval = "" if found.low is None else f"95% interval {percent(found.low, 2)} to {percent(found.high, 2)}, "
    others = [(name, value(name, number)) for name, number in found.figures.items() if name != found.metric]
    rows = [
        ("network", f"{found.network} ({found.format})"),
        *([] if found.task == "classify" else [("task", found.task)]),
        (found.metric, f"{value(found.metric, found.score)} ({interval}{plural(found.images, kind)}{stored})"),
        *([] if found.task == "classify" else others),
        ("parameters", count(found.params)),
        ("multiply-adds", count(found.macs)),
        ("bytes", quantity(found.bytes, "B")),
        (f"latency, 1 {kind}", quantity(found.latency, "s")),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        echo(f"{name:<{width}}  {text}")
    for note in found.notes:
        echo(f"note: {note}")
    return OK
