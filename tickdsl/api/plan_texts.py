"""Check, parse and format plans."""

from __future__ import annotations

from collections.abc import Mapping

from tickdsl.api.findings import Finding, PlanError, finding_of
from tickdsl.api.plan_sources import SetValue, StrPath, data_folder, plan_source, set_texts
from tickdsl.api.torch_state import neutral_torch
from tickdsl.lang.findings import diagnostics
from tickdsl.lang.reading.parse import parse as parse_source
from tickdsl.lang.syntax import File
from tickdsl.lang.writing.format import format_source
from tickdsl.plugins.permission import code_allowed_within


def check(
    plan: StrPath,
    *,
    set: Mapping[str, SetValue] | None = None,
    data: StrPath | None = None,
    network: bool = True,
    allow_code: bool = False,
) -> list[Finding]:
    """Find errors in a plan without training anything, like `tickdsl check`.

    Args:
        plan: The path of a plan, or its text.
        set: Values for a `let` or `sweep` of the plan, by name, like `--set`.
        data: The folder of the data sets (default: `$TICKDSL_DATA` or `.tick/data`).
        network: Whether to check the traced networks too. Loads torch for networks that were not traced before.
        allow_code: Whether the plan may run code that it names as `"package.module:factory"`.

    Returns:
        The findings by location; an empty list if there is nothing to say. A plan that has no finding with the
        severity "error" can be run.

    Raises:
        TickdslError: If the file cannot be read.
    """
    from tickdsl.checks.report import check_source
    from tickdsl.lang.reading.include import load_source

    source, overrides = plan_source(plan), set_texts(set)
    folder = data_folder(data)
    with code_allowed_within(allow_code), neutral_torch():
        report = check_source(source, lambda: load_source(source, overrides), data=folder, network=network)
    return [finding_of(diagnostic) for diagnostic in report.diagnostics]


def parse(plan: StrPath) -> File:
    """The syntax tree of a plan, without the files that it includes.

    Args:
        plan: The path of a plan, or its text.

    Raises:
        PlanError: If the text is not a plan.
        TickdslError: If the file cannot be read.
    """
    file, errors = parse_source(plan_source(plan))
    if errors:
        raise PlanError(errors)
    return file


def format(plan: StrPath) -> str:
    """The text of a plan as `tickdsl fmt` formats it: comments and meaning are kept. Writes no file.

    Args:
        plan: The path of a plan, or its text.

    Raises:
        PlanError: If the text is not a plan.
        TickdslError: If the file cannot be read.
    """
    try:
        return format_source(plan_source(plan))
    except diagnostics.PlanError as error:
        raise PlanError(error.diagnostics) from None
