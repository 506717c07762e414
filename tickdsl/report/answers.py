"""The answers of a report: a sentence for each question that its plans ask, at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.plurals import agreeing, plural
from tickdsl.report.outcomes import headline
from tickdsl.report.source import ReportSource
from tickdsl.results.answers import answer, is_decided, is_measured
from tickdsl.results.arm_differences import ArmDifference, arm_differences
from tickdsl.results.run_differences import run_differences

#: More sentences would push the figure off the first screen.
_MAX_SENTENCES = 5


def answers(sources: Sequence[ReportSource]) -> tuple[str, ...]:
    """For each run, which tickets win against dense, then which arms beat which, within the runs and between them.

    With several runs, a sentence on one of them starts with its name. The section on arms has what is left out here:
    pairs without rounds of the same size, then those without a decision.
    """
    several = len(sources) > 1
    main = [f"{source.name}: {headline(source.state)}" if several else headline(source.state) for source in sources]
    found = [("", d) for d in run_differences({source.name: source.state for source in sources}).differences]
    found += [
        (f"{source.name}: " if several else "", difference)
        for source in sources
        for difference in arm_differences(source.state)
    ]
    measured = [(prefix, difference) for prefix, difference in found if is_measured(difference)]
    room = max(2, _MAX_SENTENCES - len(main))
    shown = sorted(measured, key=lambda pair: _rank(pair[1]))[: room if len(measured) != room + 1 else room + 1]
    sentences = [prefix + answer(difference) for prefix, difference in shown]
    if rest := len(measured) - len(shown):
        sentences.append(f"{plural(rest, 'more pair')} of arms {agreeing(rest, 'is')} compared below.")
    return (*main, *sentences)


def _rank(difference: ArmDifference) -> int:
    return 0 if is_decided(difference) else 1 if difference.levels else 2
