"""Read and check the plan that a command works on."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tickdsl.cli.output import colour, count_findings, echo, ignore_closed_output

if TYPE_CHECKING:
    from tickdsl.checks import CheckReport
    from tickdsl.lang.syntax import Source
    from tickdsl.plan.model import Plan

#: Notes that name defaults, and notes on what a plan is resolved to.
_DEFAULTS = frozenset({"TD901", "TD902", "TD905", "TD906", "TD907"})
_RESOLUTIONS = frozenset({"TD903", "TD904"})
_LINE_WIDTH = 120


@attrs.frozen
class CheckedPlan:
    """A plan without errors, with the arms of `--only` and the seeds of `--seeds`, and its text.

    `sources` are the plan, then the files that it includes.
    """

    plan: Plan
    sources: tuple[Source, ...]

    @property
    def text(self) -> str:
        """The text of the plan, without the files that it includes."""
        return self.sources[0].text


def load_plan(arguments: argparse.Namespace, *, notes: bool, engine_folder: Path | None = None) -> CheckedPlan | None:
    """The plan; None if it has errors. Prints findings on standard error.

    `engine_folder`: the folder of a run in which another process has written the text that it has checked.
    """
    from tickdsl.checks.plan_selection import select_arms, with_seeds

    report = check_plan(arguments, notes=notes, engine_folder=engine_folder)
    if report is None:
        return None
    plan = with_seeds(select_arms(report.require_plan(), arguments.only), arguments.seeds)
    return CheckedPlan(plan, report.sources)


def check_plan(arguments: argparse.Namespace, *, notes: bool, engine_folder: Path | None = None) -> CheckReport | None:
    """The findings of a plan; None if it has errors. Prints errors, and with `notes` the rest, on standard error."""
    from tickdsl.checks import check_file
    from tickdsl.checks.plan_selection import relevant_findings
    from tickdsl.cli.checked_sources import source_reader
    from tickdsl.lang.findings.render import render

    read_plan = source_reader(engine_folder)
    report = check_file(arguments.plan, dict(arguments.set), data=arguments.data, read_plan=read_plan)
    shown = relevant_findings(report, arguments.seeds)
    if report.errors:
        echo(render(shown, colour=colour(sys.stderr)), file=sys.stderr, styled=True)
        echo(f"{arguments.plan}: {count_findings(report)}; nothing was run", file=sys.stderr)
        return None
    if notes and shown:
        # Defaults are one line; what a plan is resolved to is in the output of the command.
        kept = [d for d in shown if d.severity != "note" or d.code not in _DEFAULTS | _RESOLUTIONS]
        with ignore_closed_output():
            if kept:
                echo(render(kept, "concise", colour=colour(sys.stderr)), file=sys.stderr, styled=True)
            if defaults := defaults_line([d.message for d in shown if d.code in _DEFAULTS]):
                echo(defaults, file=sys.stderr)
    return report


def defaults_line(messages: Sequence[str]) -> str:
    """The defaults that notes name, in one line: what is between backticks, after the statement that has them."""
    names = [name for message in messages for name in re.findall(r"`([^`]*)`", message)[1:]]
    if not names:
        return ""
    tail = "; `tickdsl plan --expand` shows all"
    text = "defaults: " + ", ".join(dict.fromkeys(names))
    room = _LINE_WIDTH - len(tail)
    if len(text) > room:
        text = text[: room - 3].rpartition(", ")[0] + ", …"
    return text + tail
