"""The answers of a report: a sentence for each question that its plans ask, at the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

from tickdsl.plurals import agreeing, plural
from tickdsl.report.outcomes import headline
from tickdsl.report.source import ReportSource
from tickdsl.results.answers import answer, is_measured
from tickdsl.results.answers import answers as arm_answers
from tickdsl.results.run_differences import run_differences

#: On the differences of arms: more of them would push the figure off the first screen.
_MAX_ARM_ANSWERS = 4


def answers(sources: Sequence[ReportSource]) -> tuple[str, ...]:
    """For each run, which tickets win against dense, then which arms beat which, within the runs and between them.

    With several runs, a sentence on one of them starts with its name. The section on arms has what is left out here.
    """
    several = len(sources) > 1
    main = [(source.name, headline(source.state)) for source in sources]
    within = [(source.name, sentence) for source in sources for sentence in arm_answers(source.state)]
    between = run_differences({source.name: source.state for source in sources}).differences if several else ()
    on_arms = [f"{name}: {sentence}" if several else sentence for name, sentence in within]
    on_arms = [*(answer(difference) for difference in between if is_measured(difference)), *on_arms]
    if (rest := len(on_arms) - _MAX_ARM_ANSWERS) > 1:
        pairs = f"{plural(rest, 'more pair')} of arms {agreeing(rest, 'is')} compared below."
        on_arms = [*on_arms[:_MAX_ARM_ANSWERS], pairs]
    return (*(f"{name}: {sentence}" if several else sentence for name, sentence in main), *on_arms)
