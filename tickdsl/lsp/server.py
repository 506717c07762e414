"""The language server: handlers for the LSP requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer

from tickdsl import __version__
from tickdsl.errors import TickdslError
from tickdsl.lang.findings import explain
from tickdsl.lang.findings.diagnostics import PlanError
from tickdsl.lang.syntax import Source, Span
from tickdsl.lang.writing.format import format_source
from tickdsl.lsp import completions, cursor, symbols
from tickdsl.lsp.buffers import Buffers, file_path
from tickdsl.lsp.diagnostics import collect_diagnostics
from tickdsl.lsp.failures import answering, failure_diagnostic
from tickdsl.printable import printable

#: Seconds to wait after a change before the open plans are checked.
DEBOUNCE_SECONDS = 0.15


class PlanServer(LanguageServer):
    """Keeps the open plans. Editors send the full text on each change, since plans are small."""

    def __init__(self) -> None:
        super().__init__("tickdsl", __version__, text_document_sync_kind=types.TextDocumentSyncKind.Full)
        self._buffers: Buffers | None = None
        self._shown: set[str] = set()
        self.shutdown_requested = False

    @property
    def buffers(self) -> Buffers:
        """The current open plans."""
        if self._buffers is None:
            texts = {document.uri: document.source for document in self.workspace.text_documents.values()}
            self._buffers = Buffers(texts, self.workspace.position_codec)
        return self._buffers

    async def changed(self) -> None:
        """Check all open plans after DEBOUNCE_SECONDS without a change, and publish the diagnostics."""
        self._buffers = None
        try:
            buffers = self.buffers
            await asyncio.sleep(DEBOUNCE_SECONDS)
            if buffers is not self._buffers:
                return
            by_uri = await asyncio.to_thread(collect_diagnostics, buffers)
            if buffers is not self._buffers:
                return
        except Exception as error:
            by_uri = {uri: [failure_diagnostic(error)] for uri in self.workspace.text_documents}
        for uri in sorted(self._shown - by_uri.keys()):
            by_uri[uri] = []
        self._shown = {uri for uri, diagnostics in by_uri.items() if diagnostics}
        for uri, diagnostics in by_uri.items():
            document = self.workspace.text_documents.get(uri)
            self.text_document_publish_diagnostics(
                types.PublishDiagnosticsParams(uri, diagnostics, document.version if document else None)
            )

    def locate(self, uri: str, position: types.Position) -> tuple[Source, int] | None:
        """The source and offset of a request's position; None if the plan is not open."""
        source = self.buffers.sources.get(uri)
        return None if source is None else (source, self.buffers.offset(source, position))


def serve() -> bool:
    """Serve LSP on stdin and stdout until the client disconnects. Returns whether it sent `shutdown` first."""
    server = build_server()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as pipe, contextlib.redirect_stdout(sys.stderr):
        server.start_io(sys.stdin.buffer, pipe)
    return server.shutdown_requested


def build_server() -> PlanServer:
    """Create the server and register its request handlers."""
    server = PlanServer()

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    async def opened(ls: PlanServer, params: types.DidOpenTextDocumentParams) -> None:
        await ls.changed()

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    async def changed(ls: PlanServer, params: types.DidChangeTextDocumentParams) -> None:
        await ls.changed()

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    async def saved(ls: PlanServer, params: types.DidSaveTextDocumentParams) -> None:
        await ls.changed()

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    async def closed(ls: PlanServer, params: types.DidCloseTextDocumentParams) -> None:
        await ls.changed()

    @server.feature(types.SHUTDOWN)
    def shutdown_requested(ls: PlanServer, params: None) -> None:
        ls.shutdown_requested = True

    server.feature(types.TEXT_DOCUMENT_FORMATTING)(_formatting)
    server.feature(types.TEXT_DOCUMENT_HOVER)(_hover)
    triggers = types.CompletionOptions(trigger_characters=[" ", "$", "=", "[", ","])
    server.feature(types.TEXT_DOCUMENT_COMPLETION, triggers)(_completion)
    server.feature(types.TEXT_DOCUMENT_DEFINITION)(_definition)
    server.feature(types.TEXT_DOCUMENT_PREPARE_RENAME)(_prepare_rename)
    server.feature(types.TEXT_DOCUMENT_RENAME, types.RenameOptions(prepare_provider=True))(_rename)
    return server


@answering
def _formatting(ls: PlanServer, params: types.DocumentFormattingParams) -> list[types.TextEdit] | None:
    """One edit that replaces the whole plan; None if it does not parse."""
    document = ls.workspace.text_documents.get(params.text_document.uri)
    if document is None:
        return None
    try:
        text = format_source(Source(file_path(document.uri), document.source))
    except PlanError:
        return None
    if text == document.source:
        return []
    source = ls.buffers.sources[document.uri]
    return [types.TextEdit(ls.buffers.range(Span(source, 0, len(source.text))), text)]


def _defined_names(buffers: Buffers, source: Source) -> completions.DefinedNames:
    """The variables and arms of a plan and its includes. Works for plans that do not parse."""
    variables: dict[str, str] = {}
    arms: dict[str, str] = {}
    for part in buffers.with_includes(source):
        defined = cursor.definitions(part.text)
        variables |= defined["let"] | defined["sweep"]
        arms |= defined["arm"]
    return completions.DefinedNames(variables, arms, *cursor.subjects(source.text))


@answering
def _completion(ls: PlanServer, params: types.CompletionParams) -> list[types.CompletionItem] | None:
    located = ls.locate(params.text_document.uri, params.position)
    if located is None:
        return None
    source, offset = located
    context = cursor.locate(source.text, offset)
    if context is None:
        return []
    span = ls.buffers.range(Span(source, context.start, offset))
    return [
        types.CompletionItem(
            label=item.word,
            kind=types.CompletionItemKind[item.kind],
            detail=printable(item.detail) or None,
            documentation=types.MarkupContent(types.MarkupKind.Markdown, printable(item.markdown)),
            sort_text=f"{not item.ready:d}{order:04d}",
            filter_text=item.word,
            text_edit=types.TextEdit(span, item.word),
        )
        for order, item in enumerate(completions.complete(context, _defined_names(ls.buffers, source)))
    ]


@answering
def _hover(ls: PlanServer, params: types.HoverParams) -> types.Hover | None:
    located = ls.locate(params.text_document.uri, params.position)
    if located is None:
        return None
    source, offset = located
    uri = params.text_document.uri
    parts: list[str] = []
    span: Span | None = None
    context = cursor.locate(source.text, offset)
    if context is not None and context.word:
        span = Span(source, context.start, context.end)
        name = symbols.occurrence(ls.buffers, uri, offset)
        text = symbols.describe(ls.buffers, uri, name.kind, name.name) if name else None
        known = completions.complete(context, _defined_names(ls.buffers, source)) if text is None else []
        parts += [text] if text else [item.markdown for item in known if item.word.rstrip("=") == context.word][:1]
    for diagnostic in ls.buffers.diagnostics(uri):
        at = diagnostic.span
        if at.source is source and at.start <= offset <= max(at.end, at.start + 1):
            parts.append(
                f"**{diagnostic.code} {diagnostic.slug}**: {diagnostic.message}\n\n{_code_page(diagnostic.code)}"
            )
            span = span or at
    if not parts or span is None:
        return None
    content = types.MarkupContent(types.MarkupKind.Markdown, printable("\n\n---\n\n".join(dict.fromkeys(parts))))
    return types.Hover(content, ls.buffers.range(span))


def _code_page(code: str) -> str:
    """The explanation of a code in Markdown, without its title."""
    page = explain.load_page(code)
    if page is None:
        return ""
    _, _, body = page.text.partition("\n")
    return body.strip().replace("\n## ", "\n#### ")


@answering
def _definition(ls: PlanServer, params: types.DefinitionParams) -> types.Location | None:
    located = ls.locate(params.text_document.uri, params.position)
    span = symbols.definition(ls.buffers, params.text_document.uri, located[1]) if located else None
    return None if span is None else ls.buffers.location(span)


@answering
def _prepare_rename(ls: PlanServer, params: types.PrepareRenameParams) -> types.Range | None:
    located = ls.locate(params.text_document.uri, params.position)
    name = symbols.occurrence(ls.buffers, params.text_document.uri, located[1]) if located else None
    return None if name is None else ls.buffers.range(name.span)


@answering
def _rename(ls: PlanServer, params: types.RenameParams) -> types.WorkspaceEdit | None:
    located = ls.locate(params.text_document.uri, params.position)
    if located is None:
        return None
    try:
        spans_by_uri = symbols.rename(ls.buffers, params.text_document.uri, located[1], params.new_name)
    except TickdslError as error:
        raise JsonRpcInvalidParams(str(error)) from None
    return types.WorkspaceEdit(
        changes={
            uri: [types.TextEdit(ls.buffers.range(span), params.new_name) for span in spans]
            for uri, spans in spans_by_uri.items()
        }
    )
