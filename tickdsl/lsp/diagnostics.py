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
_UNUSED_CODES = ("TD107", "TD507", "TD512")


def collect_diagnostics(buffers: Buffers) -> dict[str, list[types.Diagnostic]]:
    """What to show in each document. A plan that an open plan includes is judged as a part of that one."""
    shown: dict[str, list[types.Diagnostic]] = {uri: [] for uri in buffers.texts}
    reached = {uri: {*map(buffers.uri_of, buffers.with_includes(source))} for uri, source in buffers.sources.items()}
    for uri in buffers.texts:
        if any(uri in parts and root not in reached[uri] for root, parts in reached.items()):
            continue
        for diagnostic in buffers.diagnostics(uri):
            address = buffers.uri_of(diagnostic.span.source)
            placed = shown.setdefault(address, [])
            lsp_diagnostic = _to_lsp(buffers, diagnostic)
            if lsp_diagnostic not in placed:
                placed.append(lsp_diagnostic)
            if address != uri and diagnostic.severity != "note":
                shown[uri] += _repeat_at_include(buffers, uri, diagnostic)
    return shown


def _to_lsp(buffers: Buffers, diagnostic: Diagnostic) -> types.Diagnostic:
    related = [
        types.DiagnosticRelatedInformation(buffers.location(label.span), label.text) for label in diagnostic.secondary
    ]
    lines = [
        diagnostic.message,
        diagnostic.label,
        *diagnostic.notes,
        f"help: {diagnostic.help}" if diagnostic.help else "",
    ]
    return types.Diagnostic(
        range=buffers.range(diagnostic.span),
        message="\n".join(line for line in lines if line),
        severity=_SEVERITIES[diagnostic.severity],
        code=diagnostic.code,
        source="tickdsl",
        related_information=related or None,
        tags=[types.DiagnosticTag.Unnecessary] if diagnostic.code in _UNUSED_CODES else None,
    )


def _repeat_at_include(buffers: Buffers, uri: str, diagnostic: Diagnostic) -> Iterator[types.Diagnostic]:
    """The finding once more at the `include` that brought it in, pointing to where it stands."""
    source = buffers.sources[uri]
    there = buffers.uri_of(diagnostic.span.source)
    for include in parse(source)[0].statements:
        if not isinstance(include, syntax.Include):
            continue
        beside = buffers.included_source(source, include.path.text)
        if beside is not None and there in map(buffers.uri_of, buffers.with_includes(beside)):
            place = buffers.location(diagnostic.span)
            yield types.Diagnostic(
                range=buffers.range(include.span),
                message=f"in {include.path.text}: {diagnostic.message}",
                severity=_SEVERITIES[diagnostic.severity],
                code=diagnostic.code,
                source="tickdsl",
                related_information=[types.DiagnosticRelatedInformation(place, diagnostic.message)],
            )
