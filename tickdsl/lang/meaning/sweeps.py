"""Findings that hold under some values of the sweeps only: they say under which."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import attrs

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic, listing

#: So many combinations of values are named.
_NAMED = 3

Values = Mapping[str, str]


@attrs.define
class SweptFindings:
    """The findings of one arm under each combination of the sweeps that it reads, told once each.

    `sweeps`: all values of each sweep, as spelt.
    """

    sweeps: Mapping[str, Collection[str]]
    _found: dict[tuple[str, syntax.Source, int, str], tuple[Diagnostic, list[Values]]] = attrs.field(factory=dict)
    _wrong: set[tuple[str, ...]] = attrs.field(factory=set)

    def under(self, values: Values) -> Callable[[Diagnostic], None]:
        """Takes the findings under one combination."""

        def report(finding: Diagnostic) -> None:
            if finding.severity == "error":
                self._wrong.add(tuple(values.values()))
            key = (finding.code, finding.span.source, finding.span.start, finding.message)
            self._found.setdefault(key, (finding, []))[1].append(values)

        return report

    def errors_under(self, values: Values) -> bool:
        """Whether there is an error under a combination."""
        return tuple(values.values()) in self._wrong

    def told(self) -> Iterator[Diagnostic]:
        """Each finding once, with the values in force where it does not hold under all of them."""
        for finding, under in self._found.values():
            note = in_force(under, self.sweeps)
            yield attrs.evolve(finding, notes=(*finding.notes, note)) if note else finding


def in_force(under: Sequence[Values], sweeps: Mapping[str, Collection[str]]) -> str | None:
    """`with scope=local`: the values of the sweeps that matter; None where all of them do."""
    telling = [name for name in sweeps if {values.get(name) for values in under} != set(sweeps[name])]
    if not telling:
        return None
    found = dict.fromkeys(", ".join(f"{name}={values[name]}" for name in telling) for values in under)
    more = f" (and {len(found) - _NAMED} more)" if len(found) > _NAMED else ""
    return f"with {listing(list(found)[:_NAMED])}{more}"
