"""Run all checks on a plan."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import attrs

from tickdsl.checks.suppressions import apply_silences
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostic_codes import Severity
from tickdsl.lang.findings.diagnostics import Diagnostic, PlanError
from tickdsl.lang.findings.internal_errors import guarded, internal_error
from tickdsl.lang.findings.limit import limited
from tickdsl.lang.findings.render import sorted_unique
from tickdsl.lang.meaning.resolve import resolve
from tickdsl.lang.meaning.settings import first_word_span
from tickdsl.lang.meaning.sweep_diagnostics import SweepDiagnostics
from tickdsl.lang.reading.include import LoadedPlan, SourceReader, load_source, read_included
from tickdsl.lang.reading.parse import read_source
from tickdsl.lang.syntax import Source, Span
from tickdsl.plan.model import Plan

#: Warnings and notes that need the traced network or the data.
_NETWORK_CODES = (
    "TD411", "TD424", "TD425", "TD433", "TD437", "TD456", "TD462", "TD515", "TD528", "TD531", "TD532", "TD540", "TD497",
    "TD903", "TD904",
)  # fmt: skip

#: With `traced_only`, networks are checked only in plans of at most this many arms.
_MAX_TRACED_ARMS = 24


@attrs.frozen
class CheckReport:
    """The findings about a plan; `plan` is None if there are errors. `sources`: the plan and the files it includes."""

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]
    sources: tuple[Source, ...] = ()
    #: The findings beyond those that are listed, which TD018 stands for, by severity.
    hidden: Mapping[Severity, int] = attrs.field(factory=dict)

    @property
    def errors(self) -> int:
        return self._count("error")

    @property
    def warnings(self) -> int:
        return self._count("warning")

    def _count(self, severity: Severity) -> int:
        return sum(d.severity == severity for d in self.diagnostics) + self.hidden.get(severity, 0)

    def require_plan(self) -> Plan:
        """Return the plan. Raises PlanError if it has errors."""
        if self.plan is None or self.errors:
            raise PlanError(self.diagnostics)
        return self.plan


def check_file(
    path: str | Path,
    overrides: Mapping[str, str] | None = None,
    *,
    data: Path | None = None,
    network: bool = True,
    read_plan: SourceReader | None = None,
) -> CheckReport:
    """Check a plan file. Raises TickdslError if it cannot be read.

    `read_plan` reads the plan and its includes, if their text is not that of their files.
    """
    source = (read_plan or read_source)(Path(path))
    read_include = read_plan or read_included
    return check_source(source, lambda: load_source(source, overrides, read_include), data=data, network=network)


def check_source(
    source: Source,
    load: Callable[[], LoadedPlan],
    *,
    data: Path | None = None,
    network: bool = True,
    traced_only: bool = False,
) -> CheckReport:
    """Check a plan that is loaded by `load`, as `check` does. An error of tickdsl itself is a finding in the report."""
    found: tuple[Diagnostic, ...] = ()
    try:
        loaded = load()
        found = loaded.diagnostics
        return _check(loaded, data=data, network=network, traced_only=traced_only)
    except TickdslError:
        raise
    except Exception as error:
        findings = limited([internal_error(error, first_word_span(source)), *found])
        return CheckReport(None, findings.shown, (source,), findings.hidden)


def check(
    loaded: LoadedPlan, *, data: Path | None = None, network: bool = True, traced_only: bool = False
) -> CheckReport:
    """Check a plan.

    Arms without errors are checked further even if there are errors elsewhere. Torch is loaded only to trace a
    network that is not in the graph cache.

    `network`: also check the traced networks. `traced_only`: check only networks that are in the graph cache, and only
    in plans of few arms, for a fast answer.
    """
    return check_source(loaded.source, lambda: loaded, data=data, network=network, traced_only=traced_only)


def _check(loaded: LoadedPlan, *, data: Path | None, network: bool, traced_only: bool) -> CheckReport:
    resolved = resolve(loaded)
    diagnostics: list[Diagnostic] = []
    if resolved.readable is not None:
        diagnostics = _check_resolved(
            resolved.readable,
            data,
            network,
            traced_only,
            whole=resolved.plan is not None,
            span=first_word_span(loaded.source),
        )
    unique = sorted_unique([*resolved.diagnostics, *(loaded.with_include_chain(d) for d in diagnostics)])
    complete = not any(d.severity == "error" for d in unique)
    skipped_codes = () if network and not traced_only else _NETWORK_CODES
    kept = sorted_unique(apply_silences(unique, loaded.files, complete=complete, skipped_codes=skipped_codes))
    if not complete:
        # Defaults matter once the errors are fixed.
        kept = tuple(d for d in kept if d.severity != "note" or d.code == "TD018")
    findings = limited(kept)
    return CheckReport(resolved.plan if complete else None, findings.shown, tuple(loaded.files), findings.hidden)


def _check_resolved(
    plan: Plan, data: Path | None, network: bool, traced_only: bool, *, whole: bool, span: Span
) -> list[Diagnostic]:
    """Run the checks on resolved arms; `whole`: the plan has all of its arms, so they can be compared.

    `span`: where errors of tickdsl itself are reported that belong to no arm.
    """
    from tickdsl.checks import (
        amounts,
        arm_comparison,
        arm_design,
        arm_references,
        choice_controls,
        coarsening,
        compared_metric,
        data_amounts,
        fresh_controls,
        masks_of_runs,
        moments,
        other_seeds,
        plugins,
        retrainings,
        schedules,
        searches,
        sparse_training,
        tasks,
        unions,
        validation,
    )

    modules = (
        tasks, schedules, moments, retrainings, sparse_training, coarsening, other_seeds, data_amounts, validation,
        searches, arm_design, amounts,
    )  # fmt: skip
    families = [module.diagnostics for module in modules]
    collected: list[Diagnostic] = []
    has_random_structure = "random-structure" in plan.rivals
    for _, group in itertools.groupby(plan.arms, lambda arm: arm.name):
        arms = list(group)
        diagnostics = SweepDiagnostics({name: [arm.sweep[name] for arm in arms] for name in arms[0].sweep})
        sound = []
        for arm in arms:
            arm_diagnostics = [d for family in families for d in guarded(partial(family, arm), arm.span or span)]
            for diagnostic in arm_diagnostics:
                diagnostics.reporter_for(arm.sweep)(diagnostic)
            # Errors of the recipe (TD3xx) do not affect the checks of the network.
            if all(
                diagnostic.severity != "error" or diagnostic.code.startswith("TD3") for diagnostic in arm_diagnostics
            ):
                sound.append(arm)
        if traced_only:
            from tickdsl.engine.graph_cache import is_cached

            sound = [arm for arm in sound if is_cached(arm)] if len(plan.arms) <= _MAX_TRACED_ARMS else []
        if network and sound:
            from tickdsl.checks.network import diagnostics as network_diagnostics

            for arm in sound:
                find = partial(network_diagnostics, arm, data, has_random_structure=has_random_structure)
                for diagnostic in guarded(find, arm.span or span):
                    diagnostics.reporter_for(arm.sweep)(diagnostic)
        collected += diagnostics.merged()
    if whole and network and not traced_only:
        collected += guarded(partial(plugins.metric_diagnostics, plan), span)
        if not any(d.severity == "error" for d in collected):
            collected += guarded(partial(fresh_controls.diagnostics, plan, data), span)
    if whole:
        collected += guarded(partial(tasks.plan_diagnostics, plan), span)
    if whole and network and not traced_only and not any(d.severity == "error" for d in collected):
        collected += guarded(partial(tasks.plan_diagnostics_of_data, plan, data), span)
    if whole and network and not traced_only and not any(d.severity == "error" for d in collected):
        from tickdsl.checks.network import stops

        collected += guarded(partial(stops, plan, data), span)
        collected += guarded(partial(arm_references.network_diagnostics, plan, data), span)
        collected += guarded(partial(unions.network_diagnostics, plan, data), span)
    if whole:
        find = partial(compared_metric.diagnostics, plan, data, read_data=network and not traced_only)
        collected += guarded(find, span)
    if whole and not any(d.code == "TD514" for d in collected):
        collected += guarded(partial(amounts.unreachable_stops, plan), span)
    if whole:
        collected += guarded(partial(validation.plan_diagnostics, plan), span)
        collected += guarded(partial(arm_comparison.diagnostics, plan), span)
        collected += guarded(partial(choice_controls.diagnostics, plan), span)
        collected += guarded(partial(arm_references.diagnostics, plan), span)
        collected += guarded(partial(unions.diagnostics, plan), span)
        collected += guarded(partial(other_seeds.plan_diagnostics, plan), span)
        collected += guarded(partial(masks_of_runs.plan_diagnostics, plan), span)
    if whole and network and not traced_only and not any(d.severity == "error" for d in collected):
        from tickdsl.checks.training_reuse import shared_trainings

        collected += guarded(partial(shared_trainings, plan, data), span)
    return collected
