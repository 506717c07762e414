"""The answers of a report: a sentence for each question that its plans ask, at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.plurals import agreeing, plural
from tickdsl.report.outcomes import headline
from tickdsl.report.source import ReportSource
from tickdsl.results.answers import answer, is_decided, is_measured
from tickdsl.results.arm_differences import ArmDifference, arm_differences
from tickdsl.results.run_differences import run_differences

#: More sentences would push the figure off the first screen; those on several runs are longer, as is their table.
_MAX_SENTENCES = 6
MAX_RUNS_AT_TOP = 3
_MAX_SENTENCES_OF_SEVERAL = MAX_RUNS_AT_TOP + 1


def answers(sources: Sequence[ReportSource]) -> tuple[str, ...]:
    """For each run, which tickets win against dense, then which arms beat which, within the runs and between them.

    With several runs, a sentence on one of them starts with its name. The sections have what is left out here: runs
    that are not among the first, pairs without rounds of the same size, then those without a decision.
    """
    several = len(sources) > 1
    most = _MAX_SENTENCES_OF_SEVERAL if several else _MAX_SENTENCES
    main = [f"{source.name}: {headline(source.state)}" if several else headline(source.state) for source in sources]
    found = [("", d) for d in run_differences({source.name: source.state for source in sources}).differences]
    found += [
        (f"{source.name}: " if several else "", difference)
        for source in sources
        for difference in arm_differences(source.state)
    ]
    found.sort(key=lambda pair: _rank(pair[1]))
    measured = [f"{prefix}{answer(difference)}." for prefix, difference in found if is_measured(difference)]
    sentences = [*main, *measured]
    if len(sentences) <= most and len(main) <= MAX_RUNS_AT_TOP:
        return tuple(sentences)
    shown = sentences[: most - 1]
    more_runs = max(0, len(main) - len(shown))
    more_pairs = len(sentences) - len(shown) - more_runs
    return (*shown, _left_out(more_runs, more_pairs, pairs_shown=more_pairs < len(measured)))


def _left_out(runs: int, pairs: int, pairs_shown: bool) -> str:
    """Where the rest is: runs in the table of all arms, pairs in the section on arms."""
    clauses = [f"the table below has {plural(runs, 'more run')}"] if runs else []
    if pairs:
        noun = plural(pairs, "more pair" if pairs_shown else "pair")
        clauses.append(f"{noun} of arms {agreeing(pairs, 'is')} compared below{' it' if runs else ''}")
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _rank(difference: ArmDifference) -> int:
    return 0 if is_decided(difference) else 1 if difference.levels else 2
