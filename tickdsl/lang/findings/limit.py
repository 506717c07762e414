"""Limit the findings of a plan: a person mends the first ones of a line, and ten thousand help nobody."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import attrs

from tickdsl.lang.findings.diagnostic_codes import Severity
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.plurals import plural

#: The largest number of findings that are shown of a line, and of a plan with its includes.
MAX_PER_LINE, MAX_PER_PLAN = 50, 1_000
_CODE = "TD018"
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@attrs.frozen
class LimitedFindings:
    """The findings that are shown, with a note (TD018) in place of the others, and the number of the others."""

    shown: tuple[Diagnostic, ...]
    hidden: Counter[Severity]


def limited(diagnostics: Sequence[Diagnostic]) -> LimitedFindings:
    """At most MAX_PER_LINE findings of each line and MAX_PER_PLAN of all, errors first; they keep their order."""
    by_line: Counter[Hashable] = Counter()
    shown: set[int] = set()
    hidden: dict[Hashable, list[int]] = {}
    for index in sorted(range(len(diagnostics)), key=lambda index: _ORDER.index(diagnostics[index].severity)):
        span = diagnostics[index].span
        if diagnostics[index].code == _CODE:  # it says what was not read
            shown.add(index)
            continue
        line = (span.source.path, span.line)
        by_line[line] += 1
        if len(shown) >= MAX_PER_PLAN:
            hidden.setdefault("in this plan", []).append(index)
        elif by_line[line] > MAX_PER_LINE:
            hidden.setdefault(line, []).append(index)
        else:
            shown.add(index)
    notes = {min(indices): _note(diagnostics, key, indices) for key, indices in hidden.items()}
    kept = [notes.get(index, diagnostics[index]) for index in sorted(shown | notes.keys())]
    return LimitedFindings(tuple(kept), Counter(diagnostics[i].severity for group in hidden.values() for i in group))


def _note(diagnostics: Sequence[Diagnostic], key: Hashable, indices: list[int]) -> Diagnostic:
    counts = Counter(diagnostics[index].severity for index in indices)
    listed = " and ".join(plural(counts[severity], f"more {severity}") for severity in _ORDER if counts[severity])
    place = key if isinstance(key, str) else "on this line"
    span = diagnostics[min(indices)].span
    return Diagnostic(_CODE, f"… and {listed} {place}", span, help="fix the ones shown first")
