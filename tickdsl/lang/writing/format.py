"""The formatter of `tickdsl fmt`.

Line breaks are kept and lines are never joined. Lines longer than WIDTH are broken at `;`, then at braces, then at
commas, unless a comment at the end applies to the whole line. A line with `# ok` keeps exactly its statements, so that
formatting does not change which diagnostics are silenced.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import attrs
from lark.exceptions import UnexpectedInput

from tickdsl.lang.findings.diagnostics import PlanError
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.layout_tree import Block, Comment, Row, Scope, Statement, Word, read_layout

WIDTH = 120
INDENT = "    "


def format_source(source: Source) -> str:
    """Format a plan, with the newline style of its first line. Raises PlanError if it does not parse."""
    end = "\r\n" if source.text[: source.text.find("\n") + 1].endswith("\r\n") else "\n"
    text = source.text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        layout = read_layout(text)
    except UnexpectedInput:
        raise PlanError(parse(Source(source.path, text))[1]) from None
    return _Formatter(layout.silenced).render(layout.scope).replace("\n", end)


def _join_words(words: Sequence[Word]) -> str:
    """The words of a statement on one line, with canonical spacing."""
    text = ""
    previous_kind = ""
    for word in words:
        no_space = (
            not text
            or previous_kind in ("DOLLAR", "LSQB", "_DOTS", "EQUAL")
            or word.kind in (",", "RSQB", "_DOTS", "EQUAL", "COLON")
        )
        text += word.text if no_space else f" {word.text}"
        previous_kind = word.kind
    if words and words[0].kind == "LET":
        text = text.replace("=", " = ", 1)
    return text


def _flatten(statement: Statement) -> str:
    text = _join_words(statement.words)
    return text if statement.block is None else f"{text} {_flatten_block(statement.block)}"


def _flatten_block(block: Block) -> str:
    inside = "; ".join(_flatten(s) for row in block.scope.rows for s in row.statements)
    return f"{{ {inside} }}" if inside else "{}"


def _segments(words: Sequence[Word]) -> list[list[Word]]:
    """Split the words after each comma that ends a line."""
    segments: list[list[Word]] = [[]]
    for word in words:
        segments[-1].append(word)
        if word.ends_line:
            segments.append([])
    return segments


def _comma_parts(words: Sequence[Word]) -> list[str]:
    """Split the words after every comma."""
    parts: list[list[Word]] = [[]]
    for word in words:
        parts[-1].append(word)
        if word.kind == ",":
            parts.append([])
    return [_join_words(part) for part in parts if part]


class _Formatter:
    """Writes the finished `lines` and the unfinished line `current`."""

    def __init__(self, silenced: frozenset[int]) -> None:
        self.silenced = silenced
        self.lines: list[str] = []
        self.current = ""

    def render(self, scope: Scope) -> str:
        self._write_scope(scope.rows, scope.below, 0)
        self._end_line()
        return "\n".join([*self.lines, ""]) if self.lines else ""

    # -- lines

    def _begin_line(self, depth: int) -> None:
        self._end_line()
        self.current = INDENT * depth

    def _end_line(self, comment: Comment | None = None) -> None:
        if comment is not None:
            self.current += f"  {comment.text}" if self.current.strip() else comment.text
        if self.current.strip():
            self.lines.append(self.current.rstrip())
        self.current = ""

    def _write_comments(self, comments: Iterable[Comment], depth: int, *, first: bool = False) -> None:
        for comment in comments:
            self._begin_line(depth)
            if comment.blank_line_above and not first:
                self.lines.append("")
            self._end_line(comment)
            first = False

    def _fits(self, text: str) -> bool:
        return len(self.current) + len(text) <= WIDTH

    # -- scopes

    def _write_scope(
        self, rows: Sequence[Row], below: tuple[Comment, ...], depth: int, *, joined: bool = False
    ) -> None:
        """Write rows at an indentation depth. If `joined`, the first row continues the current line."""
        rows = [part for row in rows for part in self._split_row(row, depth)]
        paddings = self._alignment(rows, depth)
        for index, (row, padding) in enumerate(zip(rows, paddings, strict=True)):
            if index or not joined:
                self._write_comments(row.above, depth, first=index == 0)
                self._begin_line(depth)
                if row.blank_line_above and (index or row.above):
                    self.lines.append("")
            self._write_row(row, depth, padding)
        self._write_comments(below, depth, first=not rows)

    def _split_row(self, row: Row, depth: int) -> list[Row]:
        """Split a row that is too long into one row per statement; keep silenced statements together."""
        if len(row.statements) == 1:
            return [row]
        text = "; ".join(_flatten(s) for s in row.statements)
        if row.one_line and (row.trailing is not None or len(INDENT * depth + text) <= WIDTH):
            return [row]
        parts: list[list[Statement]] = [[]]
        for statement in row.statements:
            if parts[-1] and statement.first_line not in self.silenced:
                parts.append([])
            parts[-1].append(statement)
        rows = [Row((), False, tuple(part), None) for part in parts]
        rows[0] = attrs.evolve(rows[0], above=row.above, blank_line_above=row.blank_line_above)
        rows[-1] = attrs.evolve(rows[-1], trailing=row.trailing)
        return rows

    def _alignment(self, rows: Sequence[Row], depth: int) -> list[int]:
        """The number of spaces before each row's brace that align the braces of consecutive one-line arms."""
        paddings = [0] * len(rows)
        is_one_line_arm = [self._is_one_line_arm(row, depth) for row in rows]
        start = 0
        for end in range(len(rows) + 1):
            continues = end < len(rows) and is_one_line_arm[end] and not (rows[end].blank_line_above or rows[end].above)
            if continues and end > start and is_one_line_arm[end - 1]:
                continue
            run = range(start, end)
            heads = [_join_words(rows[i].statements[0].words) for i in run]
            width = max(map(len, heads), default=0)
            lengths = [
                len(_flatten(rows[i].statements[0])) + width - len(head) for i, head in zip(run, heads, strict=True)
            ]
            if all(is_one_line_arm[i] for i in run) and max(lengths, default=0) + len(INDENT * depth) <= WIDTH:
                for i, head in zip(run, heads, strict=True):
                    paddings[i] = width - len(head)
            start = end
        return paddings

    def _is_one_line_arm(self, row: Row, depth: int) -> bool:
        (statement, *more) = row.statements
        return (
            not more
            and statement.words[0].kind == "ARM"
            and statement.one_line
            and (row.trailing is not None or len(INDENT * depth + _flatten(statement)) <= WIDTH)
        )

    # -- statements

    def _write_row(self, row: Row, depth: int, padding: int) -> None:
        for index, statement in enumerate(row.statements):
            if index:
                self.current += "; "
            commented = row.trailing is not None and (row.one_line or statement is row.statements[-1])
            self._write_statement(statement, depth, padding, pinned=commented)
        if row.trailing is not None:
            self._end_line(row.trailing)

    def _write_statement(self, statement: Statement, depth: int, padding: int, *, pinned: bool) -> None:
        """Write a statement; if `pinned`, on one line whatever its length."""
        pinned = pinned or statement.last_line in self.silenced
        if statement.one_line and (pinned or self._fits(_flatten(statement))):
            head = _join_words(statement.words)
            self.current += head + " " * padding + _flatten(statement)[len(head) :]
            return
        self._write_words(statement, depth, pinned=pinned)
        block = statement.block
        if block is None:
            return
        if block.open_line == block.close_line and (pinned or self._fits(f" {_flatten_block(block)}")):
            self.current += f" {_flatten_block(block)}"
        else:
            self._write_block(block, depth)

    def _write_words(self, statement: Statement, depth: int, *, pinned: bool) -> None:
        block = statement.block
        segments = _segments(statement.words)
        for index, segment in enumerate(segments):
            final = index == len(segments) - 1
            brace = final and block is not None
            kept = (
                segment[-1].line in self.silenced
                or segment[-1].trailing is not None
                or (final and (block.trailing is not None if block else pinned))
            )
            text = _join_words(segment)
            if kept or self._fits(text + " {" * brace):
                self.current += text
            else:
                self._write_filled(_comma_parts(segment), depth, brace)
            if not final:
                self._end_line(segment[-1].trailing)
                self._write_comments(segment[-1].after, depth + 1)
                self._begin_line(depth + (segments[index + 1][0].kind != "RSQB"))

    def _write_filled(self, parts: Sequence[str], depth: int, brace: bool) -> None:
        """Write the parts, with as many per line as fit. `brace`: leave room for ` {` after the last one."""
        for index, part in enumerate(parts):
            reserve = " {" * (brace and index == len(parts) - 1)
            if index and not self._fits(f" {part}{reserve}"):
                self._begin_line(depth + 1)
            elif index:
                self.current += " "
            self.current += part

    def _write_block(self, block: Block, depth: int) -> None:
        self.current += " {"
        rows = block.scope.rows
        if block.open_line == block.close_line:
            statements = itertools.chain.from_iterable(row.statements for row in rows)
            self._write_scope([Row((), False, (statement,), None) for statement in statements], (), depth + 1)
            self._begin_line(depth)
            self.current += "}"
            return
        joined = bool(rows) and rows[0].statements[0].first_line == block.open_line in self.silenced
        if joined:
            self.current += " "
        else:
            self._end_line(block.trailing)
        self._write_scope(rows, block.scope.below, depth + 1, joined=joined)
        if rows and not block.scope.below and rows[-1].statements[-1].last_line == block.close_line in self.silenced:
            self.current += " }"
        else:
            self._begin_line(depth)
            self.current += "}"
