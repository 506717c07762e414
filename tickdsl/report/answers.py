"""The answers of a report: a sentence for each question that its plans ask, at the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tickdsl.report.outcomes import headline
from tickdsl.report.source import ReportSource
from tickdsl.results.answers import answers as arm_answers


def answers(sources: Sequence[ReportSource]) -> tuple[str, ...]:
    """For each run, which tickets win against dense, and which arms beat which.

    With several runs, each sentence starts with the run's name.
    """
    several = len(sources) > 1
    return tuple(
        f"{source.name}: {sentence}" if several else sentence for source in sources for sentence in _answers(source)
    )


def _answers(source: ReportSource) -> Iterator[str]:
    """The answers of one run, the main result first."""
    yield headline(source.state)
    yield from arm_answers(source.state)
