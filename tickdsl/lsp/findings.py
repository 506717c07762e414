"""The findings of all open plans as an editor shows them: each in the file where it stands."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.parse import parse
from tickdsl.lsp.buffers import Buffers

_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}
#: Findings about what is never read: editors show them faded.
_UNREAD = ("TD107", "TD507", "TD512")


def findings(buffers: Buffers) -> dict[str, list[types.Diagnostic]]:
    """What to show in each document. A plan that an open plan includes is judged as a part of that one."""
    shown: dict[str, list[types.Diagnostic]] = {uri: [] for uri in buffers.texts}
    reached = {uri: {*map(buffers.address, buffers.reached(source))} for uri, source in buffers.sources.items()}
    for uri in buffers.texts:
        if any(uri in parts and root not in reached[uri] for root, parts in reached.items()):
            continue
        for finding in buffers.findings(uri):
            address = buffers.address(finding.span.source)
            placed = shown.setdefault(address, [])
            diagnostic = _diagnostic(buffers, finding)
            if diagnostic not in placed:
                placed.append(diagnostic)
            if address != uri and finding.severity != "note":
                shown[uri] += _at_include(buffers, uri, finding)
    return shown


def _diagnostic(buffers: Buffers, finding: Diagnostic) -> types.Diagnostic:
    related = [
        types.DiagnosticRelatedInformation(buffers.location(label.span), label.text) for label in finding.secondary
    ]
    lines = [finding.message, finding.label, *finding.notes, f"help: {finding.help}" if finding.help else ""]
    return types.Diagnostic(
        range=buffers.range(finding.span),
        message="\n".join(line for line in lines if line),
        severity=_SEVERITIES[finding.severity],
        code=finding.code,
        source="tickdsl",
        related_information=related or None,
        tags=[types.DiagnosticTag.Unnecessary] if finding.code in _UNREAD else None,
    )


def _at_include(buffers: Buffers, uri: str, finding: Diagnostic) -> Iterator[types.Diagnostic]:
    """The finding once more at the `include` that brought it in, pointing to where it stands."""
    source = buffers.sources[uri]
    there = buffers.address(finding.span.source)
    for include in parse(source)[0].statements:
        if not isinstance(include, syntax.Include):
            continue
        beside = buffers.beside(source, include.path.text)
        if beside is not None and there in map(buffers.address, buffers.reached(beside)):
            place = buffers.location(finding.span)
            yield types.Diagnostic(
                range=buffers.range(include.span),
                message=f"in {include.path.text}: {finding.message}",
                severity=_SEVERITIES[finding.severity],
                code=finding.code,
                source="tickdsl",
                related_information=[types.DiagnosticRelatedInformation(place, finding.message)],
            )
