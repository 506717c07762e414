"""Check that the tasks of a plan have the metric that its networks are to be compared by (TD470)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tickdsl.engine.compared_metric import unknown_metrics
from tickdsl.engine.graph_cache import DEFAULT_DATA_DIR
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.plan.model import Plan


def diagnostics(plan: Plan, data: Path | None, *, read_data: bool) -> Iterator[Diagnostic]:
    """Yield a finding for each task that lacks the metric; read_data: data sets may be read to know their tasks."""
    found = {unknown.task: unknown for unknown in unknown_metrics(plan, data or DEFAULT_DATA_DIR, read_data=read_data)}
    for unknown in found.values():
        yield Diagnostic(
            "TD470",
            unknown.message,
            plan.metric_span or plan.compare_span,
            did_you_mean(plan.metric, unknown.known) or "",
            help=f"use {join_or(unknown.known)}, or leave out `metric=`",
        )
