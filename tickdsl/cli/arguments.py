"""Help texts and arguments that several commands share, and parsers for argument values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import attrs

from tickdsl.engine.workers.ray_options import RayOptions, parse_workers
from tickdsl.errors import TickdslError
from tickdsl.printable import printable
from tickdsl.records.bucket_location import is_bucket, open_cache
from tickdsl.records.paths import default_data_folder

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
#: A command line and what it does.
Example: TypeAlias = tuple[str, str]


def add_verb(
    verbs: Verbs, name: str, summary: str, description: str, examples: tuple[Example, Example]
) -> argparse.ArgumentParser:
    """Add a command: `summary` is its line in the list of commands, `description` the sentence in its own help."""
    return verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog=format_examples(examples),
        formatter_class=HelpFormatter,
    )


class Parser(argparse.ArgumentParser):
    """A parser whose complaints cannot control the terminal: a shell may have put names of files into the arguments."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of examples, and puts a command's name and its summary on one line."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        # argparse measures the names of commands without their indentation.
        names = [self._format_action_invocation(command) for command in self._iter_indented_subactions(action)]
        longest = max(map(len, names), default=0) + self._current_indent + 2 * self._indent_increment
        self._action_max_length = max(self._action_max_length, longest)


def format_examples(examples: Sequence[Example]) -> str:
    """The examples at the end of a help text, one per line."""
    width = max(len(command) for command, _ in examples)
    return "\n".join(["examples:", *(f"  {command:<{width}}  # {effect}" for command, effect in examples)])


def add_plan_options(verb: argparse.ArgumentParser) -> None:
    """Add the options of every command that reads a plan."""
    add_code_option(verb)
    verb.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action=EachNameOnce,
        default=[],
        type=name_value,
        help="override a `let` or `sweep` of the plan; can be given several times (default: the plan's values)",
    )
    add_data_option(verb)


def add_data_option(verb: argparse.ArgumentParser) -> None:
    """Add `--data`."""
    verb.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        default=default_data_folder(),
        help="folder of the data sets (default: $TICKDSL_DATA or .tick/data)",
    )


def add_code_option(verb: argparse.ArgumentParser) -> None:
    """Add `--allow-code`."""
    verb.add_argument(
        "--allow-code",
        action="store_true",
        help='allow the plan to run code that it names as "package.module:factory", including code in this folder',
    )


def add_store_option(verb: argparse.ArgumentParser) -> None:
    """Add `--store`."""
    verb.add_argument(
        "--store",
        metavar="STORE",
        type=store_location,
        default=Path(".tick/store"),
        help="folder of the stored results, or s3://BUCKET/PREFIX, gs:// or az:// (default: .tick/store)",
    )


def add_cache_options(verb: argparse.ArgumentParser) -> None:
    """Add `--cache` and `--cache-size`, for a store in a bucket."""
    verb.add_argument(
        "--cache",
        metavar="DIR",
        type=Path,
        help="with a store in a bucket: where this machine keeps what it reads (default: $TICKDSL_CACHE or "
        "~/.cache/tickdsl/buckets)",
    )
    verb.add_argument(
        "--cache-size",
        metavar="SIZE",
        type=byte_size,
        help="with a store in a bucket: how large that may become, such as 500MB or 50GB (default: 20GB)",
    )


def add_store_of_run_option(verb: argparse.ArgumentParser) -> None:
    """Add `--store` to a command that takes networks from the store of a run."""
    verb.add_argument(
        "--store",
        metavar="STORE",
        type=store_location,
        help="folder of the stored results, or a bucket, whose runs are then meant (default: the store of the run)",
    )


def add_bucket_option(verb: argparse.ArgumentParser) -> None:
    """Add `--store` to a command that reads runs: those of a bucket instead of those in a folder."""
    verb.add_argument(
        "--store",
        metavar="BUCKET",
        type=bucket_location,
        help="take the runs from a bucket, s3://BUCKET/PREFIX, gs:// or az:// (default: from the folder --out)",
    )


def add_out_option(verb: argparse.ArgumentParser) -> None:
    """Add `--out`."""
    verb.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("runs"), help="folder of the run folders (default: runs)"
    )


def add_only_option(verb: argparse.ArgumentParser) -> None:
    """Add `--only`."""
    verb.add_argument(
        "--only", metavar="ARM", action="append", help="only this arm; can be given several times (default: all arms)"
    )


def add_results_of_run_option(verb: argparse.ArgumentParser) -> None:
    """Add `--run` to a command that works on results of the store."""
    verb.add_argument(
        "--run", metavar="RUN", help="only results that this run refers to; `latest` is the newest (default: all)"
    )


def add_seeds_option(verb: argparse.ArgumentParser) -> None:
    """Add `--seeds`."""
    verb.add_argument(
        "--seeds",
        metavar="N",
        type=positive_int,
        help="run with N seeds: those of the plan, then the next numbers; stored ones are not trained again "
        "(default: the plan's seeds)",
    )


def add_run_argument(
    verb: argparse.ArgumentParser,
    metavar: str = "RUN",
    description: str = "folder or name of a run, or the start of its name",
    bucket_option: bool = True,
) -> None:
    """Add the run that a command works on (default: the newest one) and `--out`."""
    verb.add_argument(
        "run", metavar=metavar, nargs="?", default="latest", help=f"{description} (default: the newest run)"
    )
    add_out_option(verb)
    if bucket_option:
        add_bucket_option(verb)


def add_network_arguments(verb: argparse.ArgumentParser) -> None:
    """Add the run that a command works on, and what chooses one of its networks."""
    newest = "folder or name of a run, or the start of its name (then the newest one)"
    add_run_argument(verb, description=newest, bucket_option=False)
    verb.add_argument("--arm", metavar="ARM", help="name or id of the arm (default: the one with the best ticket)")
    verb.add_argument(
        "--level",
        metavar="N",
        type=non_negative_int,
        help="number of the level (default: the smallest winning one, else the most accurate one)",
    )
    verb.add_argument(
        "--seed", metavar="N", type=int, help="the seed (default: the one with the median accuracy of the level)"
    )
    verb.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action=EachNameOnce,
        default=[],
        type=name_value,
        help="only arms with this value of a sweep; can be given several times (default: all arms)",
    )


@attrs.frozen
class BucketUrl:
    """A store in a bucket, as it was written."""

    url: str


def store_location(text: str) -> Path | BucketUrl:
    """Parse a folder or the URL of a bucket."""
    return BucketUrl(text) if is_bucket(text) else Path(text)


def bucket_location(text: str) -> BucketUrl:
    """Parse the URL of a bucket."""
    if not is_bucket(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no bucket such as s3://lab/runs; folders are named by --out")
    return BucketUrl(text)


def open_buckets(arguments: argparse.Namespace) -> None:
    """Replace the bucket in the arguments, if there is one, by the folder of this machine that caches it.

    Raises TickdslError if the URL names no bucket, or the folder cannot be written.
    """
    store = getattr(arguments, "store", None)
    cache, size = getattr(arguments, "cache", None), getattr(arguments, "cache_size", None)
    if isinstance(store, BucketUrl):
        arguments.store = open_cache(store.url, cache, size)
    elif cache is not None or size is not None:
        option = "--cache" if cache is not None else "--cache-size"
        raise TickdslError(f"{option} has no effect without a bucket", "add --store s3://BUCKET/PREFIX")


def byte_size(text: str) -> int:
    """Parse a number of bytes such as 500MB or 50GB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, e.g. 500MB or 50GB")
    return max(1, int(float(match[1]) * 1000 ** ("", "k", "M", "G", "T").index(match[2])))


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def non_negative_int(text: str) -> int:
    """Parse a whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def path_of_file(text: str) -> Path:
    """Parse a path; an empty one, as of a variable of the shell that is not set, would mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; write `.` for the current folder")
    return Path(text)


def stack_size(text: str) -> int | None:
    """Parse a whole number of at least 1, or `auto` (None)."""
    return None if text == "auto" else positive_int(text)


def device_names(text: str) -> str:
    """Check a `--device`: auto, cpu, cuda, cuda:1 or cuda:0,2. Whether there are such devices is known to torch."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+(,\d+)*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no device: use auto, cpu, cuda, cuda:1 or cuda:0,2")
    return text


def proper_share(text: str) -> float:
    """Parse a share strictly between 0 and 1, written `0.5` or `50%`."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0% and 100%")
    return share


def where_steps_run(text: str) -> RayOptions | Literal["slurm"] | None:
    """Parse `local`, `ray`, `ray:HOST:PORT` or `slurm`."""
    try:
        return parse_workers(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def non_negative_seconds(text: str) -> float:
    """Parse a number of seconds, 0 or more."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def name_value(text: str) -> tuple[str, str]:
    """Parse `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, e.g. --set budget=40ep")
    return name.strip(), value.strip()


class EachNameOnce(argparse.Action):
    """Collect `NAME=VALUE` options; the same name twice is an error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = list(getattr(namespace, self.dest) or [])
        if any(name == values[0] for name, _ in given):
            parser.error(f"{option_string} {values[0]}=… is given twice")
        setattr(namespace, self.dest, [*given, values])


def positive_float(text: str) -> float:
    """Parse a finite number greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number
