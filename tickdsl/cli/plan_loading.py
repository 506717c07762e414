"""Read and check the plan that a command works on."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tickdsl.cli.output import colour, count_findings, echo, ignore_closed_output
from tickdsl.errors import TickdslError

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
    report = check_plan(arguments, notes=notes, engine_folder=engine_folder)
    if report is None:
        return None
    plan = with_seeds(select_arms(report.require_plan(), arguments.only), arguments.seeds)
    return CheckedPlan(plan, report.sources)


def check_plan(arguments: argparse.Namespace, *, notes: bool, engine_folder: Path | None = None) -> CheckReport | None:
    """The findings of a plan; None if it has errors. Prints errors, and with `notes` the rest, on standard error."""
    from tickdsl.checks import check_file
    from tickdsl.cli.checked_sources import source_reader
    from tickdsl.lang.findings.render import render
    from tickdsl.plan.model import MIN_SEEDS

    read_plan = source_reader(engine_folder)
    report = check_file(arguments.plan, dict(arguments.set), data=arguments.data, read_plan=read_plan)
    overridden = {"TD505"} if (arguments.seeds or 0) >= MIN_SEEDS else set()
    shown = [d for d in report.diagnostics if d.severity == "error" or not (report.errors or d.code in overridden)]
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


def select_arms(plan: Plan, names: Sequence[str] | None) -> Plan:
    """The plan with the arms that `--only` names; the others become helpers, in case a selected arm depends on them.

    Raises TickdslError for a name that is not an arm of the plan.
    """
    if not names:
        return plan
    from tickdsl.lang.findings.suggestions import did_you_mean, join_or

    known = list(dict.fromkeys([*(arm.name for arm in plan.arms), *(arm.id for arm in plan.arms)]))
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"use {join_or(known)}"
            raise TickdslError(f"--only {name}: the plan has no arm `{name}`", hint)
    selected = tuple(arm for arm in plan.arms if arm.name in names or arm.id in names)
    others = tuple(arm for arm in plan.arms if arm not in selected)
    return attrs.evolve(plan, arms=selected, helpers=(*others, *plan.helpers))


def with_seeds(plan: Plan, number: int | None) -> Plan:
    """The plan with `number` seeds (None: its own): its own first, then the smallest numbers that are not used."""
    if number is None:
        return plan
    further = (seed for seed in itertools.count(1) if seed not in plan.seeds)
    return attrs.evolve(plan, seeds=tuple(itertools.islice(itertools.chain(plan.seeds, further), number)))
