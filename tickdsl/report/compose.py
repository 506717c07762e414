"""Builds the document of a report on one or more runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tickdsl.plurals import plural
from tickdsl.report.answers import MAX_RUNS_AT_TOP, answers
from tickdsl.report.arm_symbols import ArmSymbols
from tickdsl.report.comparisons import comparison_section
from tickdsl.report.cost import cost_section
from tickdsl.report.document import Document
from tickdsl.report.environment import environment_section
from tickdsl.report.extra_metrics import extra_metrics_section
from tickdsl.report.layers import layers_section
from tickdsl.report.notes import notes_section
from tickdsl.report.outcomes import answer_section
from tickdsl.report.penalties import penalties_section
from tickdsl.report.plan_text import plan_section
from tickdsl.report.rounds import rounds_section
from tickdsl.report.samples import samples_section
from tickdsl.report.searches import searches_section
from tickdsl.report.seeds import seeds_section
from tickdsl.report.source import ReportSource, with_short_names
from tickdsl.report.step_graph import steps_section
from tickdsl.results import formatting
from tickdsl.results.caveats import alarms
from tickdsl.results.step_labels import readable_label


def build_document(sources: Sequence[ReportSource]) -> Document:
    """The document of a report on one or more runs."""
    names = tuple(source.name for source in sources)
    sources = with_short_names(sources)
    symbols = ArmSymbols(sources)
    sections = (
        answer_section(sources, symbols),
        *comparison_section(sources),
        plan_section(sources),
        rounds_section(sources, symbols),
        *extra_metrics_section(sources),
        *samples_section(sources),
        *searches_section(sources),
        layers_section(sources),
        *penalties_section(sources),
        cost_section(sources, symbols),
        steps_section(sources),
        seeds_section(sources),
        environment_section(sources),
        notes_section(sources),
    )
    if len(sources) > 1:
        notices = [f"{source.name}: {notice}" for source in sources if (notice := failure_notice(source))]
        title = f"Comparison of {len(sources)} runs"
        main_results = min(len(sources), MAX_RUNS_AT_TOP)
        return Document(title, names, answers(sources), " ".join(notices), sections, main_results)
    source = sources[0]
    run = source.state.run
    return Document(
        run.plan if run else "run", header_facts(source), answers(sources), failure_notice(source), sections
    )


def header_facts(source: ReportSource) -> tuple[str, ...]:
    """The run in a few words: its name, seeds, time, device and networks."""
    state = source.state
    facts = [source.name, plural(len(state.seeds), "seed"), formatting.training_time(state.elapsed)]
    if state.run is not None:
        facts.append(state.run.device)
    networks = {(network.model, network.params, network.macs) for network in state.networks.values()}
    facts += [
        f"{model}, {formatting.count(params)} params, {formatting.count(macs)} MACs" for model, params, macs in networks
    ]
    return tuple(facts)


def failure_notice(source: ReportSource) -> str:
    """A notice for the top of the report if the results are worthless or the run did not finish, else ""."""
    state = source.state
    worthless = [f"{alarm[0].upper()}{alarm[1:]}." for alarm in alarms(state)]
    return " ".join([*worthless, *_unfinished_notice(source)])


def _unfinished_notice(source: ReportSource) -> Iterator[str]:
    state = source.state
    if source.status == "ok":
        return
    clause = formatting.describe_status(source.status)
    steps = f"{state.finished_steps} of {plural(len(state.steps), 'step')} done"
    notice = f"{clause[0].upper()}{clause[1:]} with {steps}."
    failed = [step for step in state.steps.values() if step.status == "failed"]
    if failed:
        notice += f" {readable_label(failed[0].info.label)} failed: {failed[0].error or 'no error message'}"
    elif state.message:
        notice += f" {state.message}"
    yield notice
