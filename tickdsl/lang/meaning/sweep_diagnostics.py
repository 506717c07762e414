"""Findings that hold under some values of the sweeps only: they say under which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, join_or

#: So many combinations of values are named.
_MAX_NAMED = 3

SweepValues = Mapping[str, str]


@attrs.define
class SweepDiagnostics:
    """The findings of one arm under each combination of the sweeps that it reads, told once each.

    `sweeps`: all values of each sweep, as spelt.
    """

    sweeps: Mapping[str, Collection[str]]
    _found: dict[tuple[str, syntax.Source, int, str], tuple[Diagnostic, list[SweepValues]]] = attrs.field(factory=dict)
    _wrong: set[tuple[str, ...]] = attrs.field(factory=set)

    def reporter_for(self, values: SweepValues) -> Callable[[Diagnostic], None]:
        """Takes the findings under one combination."""

        def report(diagnostic: Diagnostic) -> None:
            if diagnostic.severity == "error":
                self._wrong.add(tuple(values.values()))
            key = (diagnostic.code, diagnostic.span.source, diagnostic.span.start, diagnostic.message)
            self._found.setdefault(key, (diagnostic, []))[1].append(values)

        return report

    def has_errors_for(self, values: SweepValues) -> bool:
        """Whether there is an error under a combination."""
        return tuple(values.values()) in self._wrong

    def merged(self) -> Iterator[Diagnostic]:
        """Each finding once, with the values in force where it does not hold under all of them."""
        for diagnostic, under in self._found.values():
            note = describe_sweep_values(under, self.sweeps)
            yield attrs.evolve(diagnostic, notes=(*diagnostic.notes, note)) if note else diagnostic


def describe_sweep_values(under: Sequence[SweepValues], sweeps: Mapping[str, Collection[str]]) -> str | None:
    """`with scope=local`: the values of the sweeps that matter; None where all of them do."""
    relevant = [name for name in sweeps if {values.get(name) for values in under} != set(sweeps[name])]
    if not relevant:
        return None
    found = dict.fromkeys(", ".join(f"{name}={values[name]}" for name in relevant) for values in under)
    more = f" (and {len(found) - _MAX_NAMED} more)" if len(found) > _MAX_NAMED else ""
    return f"with {join_or(list(found)[:_MAX_NAMED])}{more}"
