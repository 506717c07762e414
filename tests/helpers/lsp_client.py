"""A test editor that talks JSON-RPC to a real `tickdsl lsp` process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from lsprotocol import types
from pygls.lsp.client import LanguageClient

T = TypeVar("T")
MARK = "|"


class Editor:
    """An editor session. A `|` in a text marks the cursor."""

    def __init__(self, client: LanguageClient, folder: Path) -> None:
        self.client = client
        self.folder = folder
        self.shown: dict[str, list[types.Diagnostic]] = {}
        self.published = asyncio.Event()
        self.cursor = types.Position(0, 0)
        self.versions: dict[str, int] = {}

    def uri(self, name: str) -> str:
        return name if ":" in name else (self.folder / name).as_uri()

    def open(self, text: str, name: str = "test.plan") -> str:
        """Open a buffer, or replace its text if it is open; returns its URI."""
        uri = self.uri(name)
        text = self._extract_cursor(text)
        self.published.clear()
        if uri in self.versions:
            self.versions[uri] += 1
            self.client.text_document_did_change(
                types.DidChangeTextDocumentParams(
                    types.VersionedTextDocumentIdentifier(uri=uri, version=self.versions[uri]),
                    [types.TextDocumentContentChangeWholeDocument(text)],
                )
            )
        else:
            self.versions[uri] = 1
            item = types.TextDocumentItem(uri=uri, language_id="tickdsl", version=1, text=text)
            self.client.text_document_did_open(types.DidOpenTextDocumentParams(item))
        return uri

    def close(self, uri: str) -> None:
        self.published.clear()
        del self.versions[uri]
        self.client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))

    def _extract_cursor(self, text: str) -> str:
        before, mark, after = text.partition(MARK)
        if mark:
            line = before.rpartition("\n")[2]
            self.cursor = types.Position(before.count("\n"), len(line.encode("utf-16-le")) // 2)
        return before + after

    async def diagnostics(self) -> dict[str, list[types.Diagnostic]]:
        """The diagnostics by URI, once the server has published them."""
        await asyncio.wait_for(self.published.wait(), 60)
        await asyncio.sleep(0.05)  # diagnostics of the other files
        return self.shown

    async def codes(self, name: str = "test.plan") -> list[str]:
        shown = await self.diagnostics()
        return [str(d.code) for d in shown.get(self.uri(name), [])]

    def _position_params(self, uri: str) -> dict[str, Any]:
        return {"text_document": types.TextDocumentIdentifier(uri), "position": self.cursor}

    async def completions(self, text: str, name: str = "test.plan") -> dict[str, types.CompletionItem]:
        uri = self.open(text, name)
        result = await self.client.text_document_completion_async(types.CompletionParams(**self._position_params(uri)))
        assert not isinstance(result, types.CompletionList)
        return {item.label: item for item in result or ()}

    async def hover(self, text: str, name: str = "test.plan") -> str:
        uri = self.open(text, name)
        result = await self.client.text_document_hover_async(types.HoverParams(**self._position_params(uri)))
        if result is None:
            return ""
        assert isinstance(result.contents, types.MarkupContent)
        return result.contents.value

    async def definition(self, text: str, name: str = "test.plan") -> types.Location | None:
        uri = self.open(text, name)
        result = await self.client.text_document_definition_async(types.DefinitionParams(**self._position_params(uri)))
        assert result is None or isinstance(result, types.Location)
        return result

    async def rename(self, text: str, new_name: str, name: str = "test.plan") -> dict[str, str]:
        """The texts of the changed files after renaming, by file name."""
        uri = self.open(text, name)
        edit = await self.client.text_document_rename_async(
            types.RenameParams(new_name=new_name, **self._position_params(uri))
        )
        assert edit is not None and edit.changes is not None
        texts = {}
        for address, edits in edit.changes.items():
            file = address.rpartition("/")[2]
            before = text.replace(MARK, "") if address == uri else (self.folder / file).read_text("utf-8")
            texts[file] = apply_edits(before, edits)
        return texts

    async def formatted(self, text: str, name: str = "test.plan") -> str | None:
        uri = self.open(text, name)
        options = types.FormattingOptions(tab_size=4, insert_spaces=True)
        params = types.DocumentFormattingParams(types.TextDocumentIdentifier(uri), options)
        edits = await self.client.text_document_formatting_async(params)
        return None if edits is None else apply_edits(text, edits)


def apply_edits(text: str, edits: list[Any] | tuple[Any, ...]) -> str:
    """Apply edits as an editor does: positions in UTF-16 code units, from the end of the text to its start."""
    lines = text.replace("\r\n", "\n").split("\n")

    def offset(position: types.Position) -> int:
        line = lines[position.line].encode("utf-16-le")[: 2 * position.character].decode("utf-16-le")
        return sum(len(other) + 1 for other in lines[: position.line]) + len(line)

    result = "\n".join(lines)
    for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
        result = result[: offset(edit.range.start)] + edit.new_text + result[offset(edit.range.end) :]
    return result


def run_session(folder: Path, conversation: Callable[[Editor], Awaitable[T]], *command: str) -> T:
    """Run a conversation with a new server, which must exit with code 0."""

    async def run() -> T:
        client = LanguageClient("test", "1")
        editor = Editor(client, folder)

        @client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def publish(params: types.PublishDiagnosticsParams) -> None:
            editor.shown[params.uri] = list(params.diagnostics)
            editor.published.set()

        @client.feature(types.WINDOW_SHOW_MESSAGE)
        def show_message(params: types.ShowMessageParams) -> None:
            raise AssertionError(params.message)

        await client.start_io(*(command or (sys.executable, "-m", "tickdsl.cli", "lsp")))
        await client.initialize_async(
            types.InitializeParams(capabilities=types.ClientCapabilities(), root_uri=folder.as_uri())
        )
        client.initialized(types.InitializedParams())
        try:
            result = await conversation(editor)
        finally:
            await asyncio.wait_for(client.shutdown_async(None), 60)
            client.exit(None)
        await asyncio.wait_for(client._server.wait(), 60)
        assert client._server.returncode == 0
        await client.stop()
        return result

    return asyncio.run(run())
