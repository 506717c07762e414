"""One run, or several beside each other, as a document."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.report.accuracy import accuracy_section
from tickdsl.report.appendix import environment_section, notes_section, seeds_section
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.cost import cost_section
from tickdsl.report.document import Document
from tickdsl.report.extra_metrics import extra_metrics_section
from tickdsl.report.layers import layers_section
from tickdsl.report.outcomes import answer_section, headline
from tickdsl.report.plan_text import question_section
from tickdsl.report.source import ReportSource, with_short_names
from tickdsl.report.step_graph import steps_section
from tickdsl.results import formatting


def build_document(sources: Sequence[ReportSource]) -> Document:
    """The report on one run or more."""
    names = tuple(source.name for source in sources)
    sources = with_short_names(sources)
    symbols = ArmSymbols(sources)
    sections = (
        question_section(sources),
        answer_section(sources, symbols),
        accuracy_section(sources, symbols),
        *extra_metrics_section(sources),
        layers_section(sources),
        cost_section(sources, symbols),
        steps_section(sources),
        seeds_section(sources),
        environment_section(sources),
        notes_section(sources),
    )
    if len(sources) > 1:
        notices = [f"{source.name}: {notice}" for source in sources if (notice := _failure_notice(source))]
        return Document(f"{len(sources)} runs compared", names, "", " ".join(notices), sections)
    source = sources[0]
    run = source.state.run
    return Document(
        run.plan if run else "run", _header_facts(source), headline(source.state), _failure_notice(source), sections
    )


def _header_facts(source: ReportSource) -> tuple[str, ...]:
    state = source.state
    number = len(state.seeds)
    facts = [source.name, f"{number} seed{'s' * (number != 1)}", formatting.training_time(state.elapsed)]
    if state.run is not None:
        facts.append(state.run.device)
    networks = {(network.model, network.params, network.macs) for network in state.networks.values()}
    facts += [
        f"{model}, {formatting.count(params)} params, {formatting.count(macs)} MACs" for model, params, macs in networks
    ]
    return tuple(facts)


def _failure_notice(source: ReportSource) -> str:
    """What a reader of an unfinished or failed run must know first."""
    state = source.state
    if source.status == "ok":
        return ""
    notice = f"The run is {source.status}: {state.finished_steps} of {len(state.steps)} steps are there."
    failed = [step for step in state.steps.values() if step.status == "failed"]
    if failed:
        notice += f" {failed[0].info.label} failed: {failed[0].error or 'no reason given'}"
    elif state.message:
        notice += f" {state.message}"
    return notice
