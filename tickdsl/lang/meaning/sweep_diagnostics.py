"""Merge the findings of a swept arm, naming the sweep values that cause each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import join_or

#: At most this many combinations of values are listed.
_MAX_NAMED = 3

SweepValues = Mapping[str, str]


@attrs.define
class SweepDiagnostics:
    """The findings of one arm under every combination of its sweep values, each reported once.

    `sweeps` maps the name of a sweep to all of its values, as written.
    """

    sweeps: Mapping[str, Collection[str]]
    _diagnostics: dict[tuple[str, syntax.Source, int, str], tuple[Diagnostic, list[SweepValues]]] = attrs.field(
        factory=dict
    )
    _combinations_with_errors: set[tuple[str, ...]] = attrs.field(factory=set)
    #: The number of errors that differ in more than the values that cause them.
    different_errors: int = 0

    def reporter_for(self, values: SweepValues) -> Callable[[Diagnostic], None]:
        """A sink for the findings under one combination of values."""

        def report(diagnostic: Diagnostic) -> None:
            if diagnostic.severity == "error":
                self._combinations_with_errors.add(tuple(values.values()))
            key = (diagnostic.code, diagnostic.span.source, diagnostic.span.start, diagnostic.message)
            if key not in self._diagnostics and diagnostic.severity == "error":
                self.different_errors += 1
            self._diagnostics.setdefault(key, (diagnostic, []))[1].append(values)

        return report

    def has_errors_for(self, values: SweepValues) -> bool:
        """Whether an error was reported under this combination."""
        return tuple(values.values()) in self._combinations_with_errors

    def merged(self) -> Iterator[Diagnostic]:
        """Yield each finding once, with a note on the sweep values if it does not apply to all of them."""
        for diagnostic, combinations in self._diagnostics.values():
            note = describe_sweep_values(combinations, self.sweeps)
            yield attrs.evolve(diagnostic, notes=(*diagnostic.notes, note)) if note else diagnostic


def describe_sweep_values(combinations: Sequence[SweepValues], sweeps: Mapping[str, Collection[str]]) -> str | None:
    """Describe combinations by the sweeps that matter: `with scope=local`. None if they cover every value."""
    relevant = [name for name in sweeps if {values.get(name) for values in combinations} != set(sweeps[name])]
    if not relevant:
        return None
    texts = dict.fromkeys(", ".join(f"{name}={values[name]}" for name in relevant) for values in combinations)
    more = f" (and {len(texts) - _MAX_NAMED} more)" if len(texts) > _MAX_NAMED else ""
    return f"with {join_or(list(texts)[:_MAX_NAMED])}{more}"
