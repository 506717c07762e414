"""Check that arms and questions ask for what the tasks of their data have (TD472 to TD479).

What the catalogue knows is checked without the data; the rest once they were read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
from tickdsl.engine.task_fit import DataKnowledge, arm_findings, plan_findings
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plan.model import Arm, Plan


def diagnostics(arm: Arm) -> Iterator[Diagnostic]:
    """Yield findings about an arm whose task the catalogue names."""
    yield from arm_findings(arm, DataKnowledge.from_catalogue())


def diagnostics_of_data(arm: Arm, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about an arm after reading its data. Raises TickdslError if they cannot be read."""
    yield from arm_findings(arm, DataKnowledge.from_data(data or DEFAULT_DATA_DIR))


def plan_diagnostics(plan: Plan) -> Iterator[Diagnostic]:
    """Yield findings about the questions of a plan and the tasks that the catalogue names."""
    yield from plan_findings(plan, DataKnowledge.from_catalogue())


def plan_diagnostics_of_data(plan: Plan, data: Path | None) -> Iterator[Diagnostic]:
    """Yield findings about the questions of a plan after reading its data."""
    try:
        yield from plan_findings(plan, DataKnowledge.from_data(data or DEFAULT_DATA_DIR))
    except TickdslError:
        return  # the arm has a finding of its own
