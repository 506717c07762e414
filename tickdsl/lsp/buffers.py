"""The plans that are open in the editor, and conversion between offsets and LSP positions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import attrs
from lsprotocol import types
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import PositionCodec

from tickdsl.checks import check_source
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import LoadedPlan, load_source, read_included
from tickdsl.lang.reading.plan_files import real_path
from tickdsl.lang.syntax import Source, Span
from tickdsl.lsp import cursor


def file_path(uri: str) -> str:
    """The path of a document URI; for an unsaved document, its title."""
    return (to_fs_path(uri) or uri.rpartition(":")[2]).replace("\0", "")


def _with_newlines(texts: Mapping[str, str]) -> dict[str, str]:
    return {uri: text.replace("\r\n", "\n").replace("\r", "\n") for uri, text in texts.items()}


@attrs.frozen(eq=False)
class Buffers:
    """A snapshot of all open plans by URI, with `\\n` newlines. Parsed plans and diagnostics are cached."""

    texts: Mapping[str, str] = attrs.field(converter=_with_newlines)
    codec: PositionCodec = attrs.field(factory=PositionCodec)

    @functools.cached_property
    def sources(self) -> dict[str, Source]:
        return {uri: Source(file_path(uri), text) for uri, text in self.texts.items()}

    @functools.cached_property
    def _open(self) -> dict[Path, str]:
        return {real_path(source.path): uri for uri, source in self.sources.items()}

    @functools.cached_property
    def _loaded(self) -> dict[str, LoadedPlan]:
        return {}

    @functools.cached_property
    def _findings(self) -> dict[str, tuple[Diagnostic, ...]]:
        return {}

    def read_plan(self, path: Path) -> Source:
        """An included source: its buffer if it is open, else its file. Raises TickdslError if that cannot be read."""
        uri = self._open.get(real_path(path))
        return read_included(path) if uri is None else self.sources[uri]

    def loaded(self, uri: str) -> LoadedPlan:
        """An open plan with its includes spliced in."""
        if uri not in self._loaded:
            self._loaded[uri] = load_source(self.sources[uri], None, self.read_plan)
        return self._loaded[uri]

    def diagnostics(self, uri: str) -> tuple[Diagnostic, ...]:
        """The diagnostics of an open plan and its includes. Networks are only checked if they were traced before."""
        if uri not in self._findings:
            report = check_source(self.sources[uri], lambda: self.loaded(uri), traced_only=True)
            self._findings[uri] = report.diagnostics
        return self._findings[uri]

    def included_source(self, source: Source, name: str) -> Source | None:
        """The source of `include "name"` in a plan; None if it cannot be read."""
        try:
            return self.read_plan(Path(source.path).parent / name.replace("\0", ""))
        except TickdslError:
            return None

    def with_includes(self, source: Source) -> list[Source]:
        """The source and everything it includes, directly or indirectly; invalid plans too."""
        sources = {self.uri_of(source): source}
        queue = [source]
        while queue:
            current = queue.pop()
            for name in cursor.includes(current.text):
                included = self.included_source(current, name)
                if included is not None and self.uri_of(included) not in sources:
                    sources[self.uri_of(included)] = included
                    queue.append(included)
        return list(sources.values())

    # -- positions

    def uri_of(self, source: Source) -> str:
        """The URI of a source: that of its buffer if it is open, else of its file."""
        path = real_path(source.path)
        return self._open.get(path) or from_fs_path(str(path)) or source.path

    def position(self, source: Source, offset: int) -> types.Position:
        line, column = source.line_and_column(offset)
        text = source.text[offset - column + 1 : offset]
        return types.Position(line - 1, self.codec.client_num_units(text))

    def range(self, span: Span) -> types.Range:
        return types.Range(self.position(span.source, span.start), self.position(span.source, span.end))

    def location(self, span: Span) -> types.Location:
        return types.Location(self.uri_of(span.source), self.range(span))

    def offset(self, source: Source, position: types.Position) -> int:
        """The offset of a position. A position past the end of a line or of the text is clamped to that end."""
        start = units = 0
        for _ in range(position.line):
            end = source.text.find("\n", start)
            if end < 0:
                return len(source.text)
            start = end + 1
        for index in range(start, len(source.text)):
            if units >= position.character or source.text[index] == "\n":
                return index
            units += self.codec.client_num_units(source.text[index])
        return len(source.text)
