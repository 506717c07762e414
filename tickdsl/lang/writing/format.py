"""The canonical layout of a plan.

Where the author broke a line it stays broken; lines are never joined. What is longer than WIDTH is broken: at `;`, at
braces, then at commas, but not where a comment speaks of the whole line. A line on which `# ok` silences findings
keeps exactly its statements, so that formatting changes no finding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import attrs
from lark.exceptions import UnexpectedInput

from tickdsl.lang.findings.diagnostics import PlanError
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.layout_tree import Block, Comment, Row, Scope, Statement, Word, read

WIDTH = 120
INDENT = "    "


def format_source(source: Source) -> str:
    """The plan in canonical layout, with the line ends of its first line. Raises PlanError where it does not parse."""
    end = "\r\n" if source.text[: source.text.find("\n") + 1].endswith("\r\n") else "\n"
    text = source.text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        page = read(text)
    except UnexpectedInput:
        raise PlanError(parse(Source(source.path, text))[1]) from None
    return _Layout(page.silenced).page(page.scope).replace("\n", end)


def _spelt(words: Sequence[Word]) -> str:
    """Words of one statement on one line."""
    text = ""
    before = ""
    for word in words:
        glued = (
            not text or before in ("DOLLAR", "LSQB", "_DOTS", "EQUAL") or word.kind in (",", "RSQB", "_DOTS", "EQUAL")
        )
        text += word.text if glued else f" {word.text}"
        before = word.kind
    if words and words[0].kind == "LET":
        text = text.replace("=", " = ", 1)
    return text


def _flat(statement: Statement) -> str:
    text = _spelt(statement.words)
    return text if statement.block is None else f"{text} {_flat_block(statement.block)}"


def _flat_block(block: Block) -> str:
    inside = "; ".join(_flat(s) for row in block.scope.rows for s in row.statements)
    return f"{{ {inside} }}" if inside else "{}"


def _segments(words: Sequence[Word]) -> list[list[Word]]:
    """The words between the commas that end a line."""
    segments: list[list[Word]] = [[]]
    for word in words:
        segments[-1].append(word)
        if word.breaks:
            segments.append([])
    return segments


def _pieces(words: Sequence[Word]) -> list[str]:
    """The words between commas."""
    pieces: list[list[Word]] = [[]]
    for word in words:
        pieces[-1].append(word)
        if word.kind == ",":
            pieces.append([])
    return [_spelt(piece) for piece in pieces if piece]


class _Layout:
    """Writes line after line; `current` is the one begun."""

    def __init__(self, silenced: frozenset[int]) -> None:
        self.silenced = silenced
        self.lines: list[str] = []
        self.current = ""

    def page(self, scope: Scope) -> str:
        self._scope(scope.rows, scope.below, 0)
        self._end()
        return "\n".join([*self.lines, ""]) if self.lines else ""

    # -- lines

    def _begin(self, depth: int) -> None:
        self._end()
        self.current = INDENT * depth

    def _end(self, comment: Comment | None = None) -> None:
        if comment is not None:
            self.current += f"  {comment.text}" if self.current.strip() else comment.text
        if self.current.strip():
            self.lines.append(self.current.rstrip())
        self.current = ""

    def _comments(self, comments: Iterable[Comment], depth: int, *, first: bool = False) -> None:
        for comment in comments:
            self._begin(depth)
            if comment.spaced and not first:
                self.lines.append("")
            self._end(comment)
            first = False

    def _fits(self, text: str) -> bool:
        return len(self.current) + len(text) <= WIDTH

    # -- scopes

    def _scope(self, rows: Sequence[Row], below: tuple[Comment, ...], depth: int, *, joined: bool = False) -> None:
        """Rows at a depth; `joined`: the first goes on behind what is already on its line."""
        rows = [part for row in rows for part in self._split(row, depth)]
        pads = self._alignment(rows, depth)
        for place, (row, pad) in enumerate(zip(rows, pads, strict=True)):
            if place or not joined:
                self._comments(row.above, depth, first=place == 0)
                self._begin(depth)
                if row.spaced and (place or row.above):
                    self.lines.append("")
            self._row(row, depth, pad)
        self._comments(below, depth, first=not rows)

    def _split(self, row: Row, depth: int) -> list[Row]:
        """The row as it is, or a row for each statement."""
        if len(row.statements) == 1:
            return [row]
        text = "; ".join(_flat(s) for s in row.statements)
        if row.one_line and (row.trailing is not None or len(INDENT * depth + text) <= WIDTH):
            return [row]
        parts: list[list[Statement]] = [[]]
        for statement in row.statements:
            if parts[-1] and statement.first not in self.silenced:
                parts.append([])
            parts[-1].append(statement)
        rows = [Row((), False, tuple(part), None) for part in parts]
        rows[0] = attrs.evolve(rows[0], above=row.above, spaced=row.spaced)
        rows[-1] = attrs.evolve(rows[-1], trailing=row.trailing)
        return rows

    def _alignment(self, rows: Sequence[Row], depth: int) -> list[int]:
        """How far before its brace each row is filled: the braces of arms on successive lines stand in a column."""
        pads = [0] * len(rows)
        alone = [self._arm_on_a_line(row, depth) for row in rows]
        start = 0
        for place in range(len(rows) + 1):
            goes_on = place < len(rows) and alone[place] and not (rows[place].spaced or rows[place].above)
            if goes_on and place > start and alone[place - 1]:
                continue
            run = range(start, place)
            heads = [_spelt(rows[i].statements[0].words) for i in run]
            width = max(map(len, heads), default=0)
            lengths = [
                len(_flat(rows[i].statements[0])) + width - len(head) for i, head in zip(run, heads, strict=True)
            ]
            if all(alone[i] for i in run) and max(lengths, default=0) + len(INDENT * depth) <= WIDTH:
                for i, head in zip(run, heads, strict=True):
                    pads[i] = width - len(head)
            start = place
        return pads

    def _arm_on_a_line(self, row: Row, depth: int) -> bool:
        (statement, *more) = row.statements
        return (
            not more
            and statement.words[0].kind == "ARM"
            and statement.one_line
            and (row.trailing is not None or len(INDENT * depth + _flat(statement)) <= WIDTH)
        )

    # -- statements

    def _row(self, row: Row, depth: int, pad: int) -> None:
        for place, statement in enumerate(row.statements):
            if place:
                self.current += "; "
            commented = row.trailing is not None and (row.one_line or statement is row.statements[-1])
            self._statement(statement, depth, pad, pinned=commented)
        if row.trailing is not None:
            self._end(row.trailing)

    def _statement(self, statement: Statement, depth: int, pad: int, *, pinned: bool) -> None:
        pinned = pinned or statement.last in self.silenced
        if statement.one_line and (pinned or self._fits(_flat(statement))):
            head = _spelt(statement.words)
            self.current += head + " " * pad + _flat(statement)[len(head) :]
            return
        self._words(statement, depth, pinned=pinned)
        block = statement.block
        if block is None:
            return
        if block.opened == block.closed and (pinned or self._fits(f" {_flat_block(block)}")):
            self.current += f" {_flat_block(block)}"
        else:
            self._block(block, depth)

    def _words(self, statement: Statement, depth: int, *, pinned: bool) -> None:
        block = statement.block
        segments = _segments(statement.words)
        for place, segment in enumerate(segments):
            final = place == len(segments) - 1
            brace = final and block is not None
            kept = (
                segment[-1].line in self.silenced
                or segment[-1].trailing is not None
                or (final and (block.trailing is not None if block else pinned))
            )
            text = _spelt(segment)
            if kept or self._fits(text + " {" * brace):
                self.current += text
            else:
                self._fill(_pieces(segment), depth, brace)
            if not final:
                self._end(segment[-1].trailing)
                self._comments(segment[-1].after, depth + 1)
                self._begin(depth + (segments[place + 1][0].kind != "RSQB"))

    def _fill(self, pieces: Sequence[str], depth: int, brace: bool) -> None:
        """As many pieces on a line as it holds."""
        for place, piece in enumerate(pieces):
            reserve = " {" * (brace and place == len(pieces) - 1)
            if place and not self._fits(f" {piece}{reserve}"):
                self._begin(depth + 1)
            elif place:
                self.current += " "
            self.current += piece

    def _block(self, block: Block, depth: int) -> None:
        self.current += " {"
        rows = block.scope.rows
        if block.opened == block.closed:
            statements = itertools.chain.from_iterable(row.statements for row in rows)
            self._scope([Row((), False, (statement,), None) for statement in statements], (), depth + 1)
            self._begin(depth)
            self.current += "}"
            return
        goes_on = bool(rows) and rows[0].statements[0].first == block.opened in self.silenced
        if goes_on:
            self.current += " "
        else:
            self._end(block.trailing)
        self._scope(rows, block.scope.below, depth + 1, joined=goes_on)
        if rows and not block.scope.below and rows[-1].statements[-1].last == block.closed in self.silenced:
            self.current += " }"
        else:
            self._begin(depth)
            self.current += "}"
