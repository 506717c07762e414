"""Convert the diagnostics of all open plans to LSP, grouped by file."""

from __future__ import annotations

from collections.abc import Iterator

from lsprotocol import types

from tickdsl.lang import syntax
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.parse import parse
from tickdsl.lsp.buffers import Buffers
from tickdsl.lsp.failures import failure_diagnostic
from tickdsl.printable import printable

_SEVERITIES = {
    "error": types.DiagnosticSeverity.Error,
    "warning": types.DiagnosticSeverity.Warning,
    "note": types.DiagnosticSeverity.Information,
}
#: Diagnostics about unused definitions, which editors show faded.
_UNUSED_CODES = ("TD107", "TD507", "TD512")


def collect_diagnostics(buffers: Buffers) -> dict[str, list[types.Diagnostic]]:
    """LSP diagnostics by URI. An open plan that another open plan includes is only checked as a part of that plan."""
    shown: dict[str, list[types.Diagnostic]] = {uri: [] for uri in buffers.texts}
    reached = {uri: {*map(buffers.uri_of, buffers.with_includes(source))} for uri, source in buffers.sources.items()}
    for uri in buffers.texts:
        if any(uri in parts and root not in reached[uri] for root, parts in reached.items()):
            continue
        try:
            _collect(buffers, uri, shown)
        except Exception as error:
            shown[uri] = [failure_diagnostic(error)]
    return shown


def _collect(buffers: Buffers, uri: str, shown: dict[str, list[types.Diagnostic]]) -> None:
    """Add the diagnostics of an open plan to those that are shown."""
    for diagnostic in buffers.diagnostics(uri):
        target_uri = buffers.uri_of(diagnostic.span.source)
        target = shown.setdefault(target_uri, [])
        lsp_diagnostic = _to_lsp(buffers, diagnostic)
        if lsp_diagnostic not in target:
            target.append(lsp_diagnostic)
        if target_uri != uri and diagnostic.severity != "note":
            shown[uri] += _repeat_at_include(buffers, uri, diagnostic)


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
    """The diagnostic again, at the `include` statement of its file, with a link to its location."""
    source = buffers.sources[uri]
    target_uri = buffers.uri_of(diagnostic.span.source)
    for include in parse(source)[0].statements:
        if not isinstance(include, syntax.Include):
            continue
        included = buffers.included_source(source, include.path.text)
        if included is not None and target_uri in map(buffers.uri_of, buffers.with_includes(included)):
            location = buffers.location(diagnostic.span)
            yield types.Diagnostic(
                range=buffers.range(include.span),
                message=printable(f"in {include.path.text}: {diagnostic.message}"),
                severity=_SEVERITIES[diagnostic.severity],
                code=diagnostic.code,
                source="tickdsl",
                related_information=[types.DiagnosticRelatedInformation(location, diagnostic.message)],
            )
