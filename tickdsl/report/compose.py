"""One run, or several beside each other, as a document."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.report.accuracy import accuracy
from tickdsl.report.answer import answer, headline
from tickdsl.report.asked import asked
from tickdsl.report.cost import cost
from tickdsl.report.document import Document
from tickdsl.report.layerwise import layerwise
from tickdsl.report.question import question
from tickdsl.report.record import environment, notes, seeds
from tickdsl.report.source import Source, with_short_names
from tickdsl.report.step_graph import steps
from tickdsl.report.symbols import Symbols
from tickdsl.results import words


def compose(sources: Sequence[Source]) -> Document:
    """The report on one run or more."""
    runs = tuple(source.name for source in sources)
    sources = with_short_names(sources)
    symbols = Symbols(sources)
    sections = (
        question(sources),
        answer(sources, symbols),
        accuracy(sources, symbols),
        *asked(sources),
        layerwise(sources),
        cost(sources, symbols),
        steps(sources),
        seeds(sources),
        environment(sources),
        notes(sources),
    )
    if len(sources) > 1:
        alarms = [f"{source.name}: {said}" for source in sources if (said := _alarm(source))]
        return Document(f"{len(sources)} runs compared", runs, "", " ".join(alarms), sections)
    source = sources[0]
    run = source.state.run
    return Document(run.plan if run else "run", _facts(source), headline(source.state), _alarm(source), sections)


def _facts(source: Source) -> tuple[str, ...]:
    state = source.state
    number = len(state.seeds)
    facts = [source.name, f"{number} seed{'s' * (number != 1)}", words.time(state.elapsed)]
    if state.run is not None:
        facts.append(state.run.device)
    networks = {(network.model, network.params, network.macs) for network in state.networks.values()}
    facts += [f"{model}, {words.count(params)} params, {words.count(macs)} MACs" for model, params, macs in networks]
    return tuple(facts)


def _alarm(source: Source) -> str:
    """What a reader of an unfinished or failed run must know first."""
    state = source.state
    if source.status == "ok":
        return ""
    said = f"The run is {source.status}: {state.finished} of {len(state.steps)} steps are there."
    failed = [step for step in state.steps.values() if step.status == "failed"]
    if failed:
        said += f" {failed[0].info.label} failed: {failed[0].error or 'no reason given'}"
    elif state.message:
        said += f" {state.message}"
    return said
