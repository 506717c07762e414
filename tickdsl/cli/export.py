"""`tickdsl export`: write a ticket of a run to a file."""

from __future__ import annotations

import argparse
import sys

from tickdsl.cli.arguments import (
    Verbs,
    add_code_option,
    add_data_option,
    add_network_arguments,
    add_store_of_run_option,
    add_verb,
    path_of_file,
)
from tickdsl.cli.bucket_runs import runs_folder
from tickdsl.cli.output import OK, STEP_FAILED, echo

_FORMATS = ("ticket", "pt2", "onnx", "state-dict")


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    export = add_verb(
        verbs,
        "export",
        "write a ticket to a file",
        "Write a pruned network of a run to a file, and verify the file in a fresh process.",
        (
            ("tickdsl export", "write the smallest winning ticket of the newest run"),
            ("tickdsl export card --level 3 --format onnx --to card.onnx", "write round 3 of a run as ONNX"),
        ),
    )
    add_network_arguments(export)
    export.add_argument(
        "--format",
        choices=_FORMATS,
        help="ticket: for tickdsl; pt2: torch.export; onnx: ONNX; state-dict: plain weights with Python code "
        "(default: the one that --to ends with, else ticket)",
    )
    export.add_argument(
        "--to",
        metavar="PATH",
        type=path_of_file,
        help="file to write, or a folder (default: PLAN-ARM-roundN-seedN here)",
    )
    export.add_argument("--dense", action="store_true", help="export the dense network instead of a ticket")
    export.add_argument(
        "--sparse", action="store_true", help="ticket: store masked weights compressed (default: write their zeros)"
    )
    export.add_argument(
        "--raw",
        action="store_true",
        help="pt2, onnx: leave the normalisation out (default: the network normalises the images)",
    )
    export.add_argument("--int8", action="store_true", help="quantise the weights to 8 bits (default: keep float32)")
    export.add_argument(
        "--blocks",
        action="store_true",
        help="pt2, onnx: compute only the filters and dense blocks of layers that `refill` or `regroup` made (default: "
        "whole layers with zeros)",
    )
    export.add_argument(
        "--part",
        metavar="NAME",
        help="pt2, onnx, state-dict: export only this part of the network, such as encoder, decoder, generator or "
        "discriminator (default: all of it; of a GAN as pt2 or onnx its generator)",
    )
    add_store_of_run_option(export)
    add_data_option(export)
    add_code_option(export)
    export.set_defaults(verb=_export)


def _export(arguments: argparse.Namespace) -> int:
    from tickdsl.records.paths import find_newest_run
    from tickdsl.tickets.choice import DENSE, TICKET, Wanted
    from tickdsl.tickets.errors import VerificationError
    from tickdsl.tickets.export_format import ExportOptions
    from tickdsl.tickets.exporting import export, format_named
    from tickdsl.tickets.from_run import ticket_of_run
    from tickdsl.tickets.size_table import size_table

    options = ExportOptions(
        raw=arguments.raw,
        sparse=arguments.sparse,
        int8=arguments.int8,
        blocks=arguments.blocks,
        part=arguments.part or "",
    )
    chosen = format_named(arguments.format, arguments.to, options)
    paths, note = find_newest_run(runs_folder(arguments), arguments.run)
    if note:
        echo(note)
    wanted = Wanted(
        arm=arguments.arm,
        level=arguments.level,
        seed=arguments.seed,
        sweep=dict(arguments.set),
        contestant=DENSE if arguments.dense else TICKET,
    )
    taken = ticket_of_run(paths, wanted, store=arguments.store, data=arguments.data)
    echo(taken.choice)
    try:
        exported = export(taken, chosen, arguments.to, options)
    except VerificationError as error:
        echo(f"tickdsl: {error}\nno file was written", file=sys.stderr)
        return STEP_FAILED
    for line in size_table(taken, exported):
        echo(line)
    if options.part:
        echo("score, parameters, multiply-adds and latency are those of the whole network")
    for line in (*exported.notes, exported.verified.sentence):
        echo(line)
    echo(exported.path)
    return OK
