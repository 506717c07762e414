"""Arguments that several verbs take, and what their values must look like."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TypeAlias

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_plan_options(verb: argparse.ArgumentParser) -> None:
    add_code_option(verb)
    verb.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], type=name_value, help="replace a let or sweep"
    )
    verb.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("TICKDSL_DATA", ".tick/data")),
        help="where data sets lie (default: $TICKDSL_DATA or .tick/data)",
    )


def add_code_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--allow-code",
        action="store_true",
        help='let the plan run code that it names as "package.module:factory", also from this folder',
    )


def positive_int(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def stack_size(text: str) -> int | None:
    return None if text == "auto" else positive_int(text)


def proper_share(text: str) -> float:
    try:
        proper_share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        proper_share = math.nan
    if not 0 < proper_share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0% and 100%")
    return proper_share


def non_negative_seconds(text: str) -> float:
    try:
        non_negative_seconds = float(text)
    except ValueError:
        non_negative_seconds = math.nan
    if not non_negative_seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return non_negative_seconds


def name_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, e.g. --set budget=40ep")
    return name.strip(), value.strip()


def positive_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def add_run_argument(
    verb: argparse.ArgumentParser,
    metavar: str = "RUN",
    description: str = "a run's folder, its name, or how its name begins",
) -> None:
    """Which run a verb is about; the newest one where nobody says."""
    verb.add_argument("run", metavar=metavar, nargs="?", default="latest", help=f"{description} (default: the newest)")
    verb.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="where run folders are")
