"""`tickdsl schema`: print the JSON Schema of a file that runs write."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from tickdsl.cli.arguments import Verbs, add_verb
from tickdsl.cli.output import OK, echo
from tickdsl.records.files import write_atomically

#: The schemas by name: package and file.
_SCHEMAS = {"results": ("tickdsl.results", "results.schema.json")}


def add(verbs: Verbs) -> None:
    """Add the command to the parser."""
    schema = add_verb(
        verbs,
        "schema",
        "print the JSON Schema of results.json",
        "Print the JSON Schema of a file that every run writes.",
        (
            ("tickdsl schema results", "print the schema of results.json"),
            ("tickdsl schema results --to results.schema.json", "save it for a validator"),
        ),
    )
    schema.add_argument("file", choices=sorted(_SCHEMAS), help="file that the schema describes: results")
    schema.add_argument("--to", metavar="FILE", type=Path, help="write to this file (default: print it)")
    schema.set_defaults(verb=_schema)


def _schema(arguments: argparse.Namespace) -> int:
    package, name = _SCHEMAS[arguments.file]
    content = files(package).joinpath(name).read_bytes()
    if arguments.to is None:
        echo(content.decode(), end="")
    else:
        write_atomically(arguments.to, content)
    return OK
