"""A plan's text cut into its statements by separators and braces alone, so that a broken one can be left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from tickdsl.lang.findings.suggestions import suggest
from tickdsl.lang.syntax import Source, Span
from tickdsl.lang.vocabulary import STATEMENTS

#: Blocks and lists nested deeper than this are refused: what reads them is recursive.
MAX_DEPTH = 32
#: Statements that stand at the top level only: where a block was never closed, it ends before the next of them.
TOP_LEVEL_KEYWORDS = ("plan", "let", "include", "seeds", "sweep", "arm", "compare", "report", "stop")

#: What begins a block that holds a pipeline.
_BLOCK_KEYWORDS = {"arm": "arm", "cycle": "cycle", "experiment": "arm", "run": "arm"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")
_LEXEME = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<comma>,(?:[ \t\r\n]|#[^\n]*)*)'
    r"|(?P<separator>;|\r?\n)|(?P<open>\{)|(?P<close>\})|(?P<list>\[)|(?P<unlist>\])"
)
_TOP_LEVEL = re.compile(rf"[ \t]*(?:{'|'.join(TOP_LEVEL_KEYWORDS)})(?![\w.=-])[ \t]*[^\s=]")
#: A brace on a line of its own, or on a later one than its statement.
_BRACE_ON_NEXT_LINE = re.compile(r"[ \t]*\r?\n\s*\{")


@attrs.frozen
class StatementText:
    """One statement of the top level with all in its block, from `start` on in its source.

    `text` is what is parsed: what was written, broken statements blanked, a missing brace put to its end.
    """

    source: Source
    start: int
    written: str
    text: str
    #: The offset in the piece of a `{` that nothing closes.
    unclosed: int | None = None

    def span(self, start: int, end: int) -> Span:
        most = len(self.written)
        return Span(self.source, self.start + min(start, most), self.start + min(end, most))

    def blanked(self, start: int, end: int) -> StatementText:
        """The piece with a range blanked; line ends stay."""
        blank = re.sub(r"[^\r\n]", " ", self.text[start:end])
        return attrs.evolve(self, text=self.text[:start] + blank + self.text[end:])

    def with_repaired_header(self, start: int, place: int) -> tuple[StatementText, int] | None:
        """The piece with the header of the `arm` or `cycle` at `start` made one that can be read, and its end.

        None where what is wrong at `place` is no such header: what stands in the block is lost with it.
        """
        for lexeme in _boundaries(self.text, start):
            if lexeme.lastgroup == "open" and place <= lexeme.start():
                header = self.text[start : lexeme.start()]
                mended = _repair_header(re.findall(r"[\w.-]+", header))
                if mended is None or len(mended) > len(header):
                    return None
                text = self.text[:start] + mended.ljust(len(header)) + self.text[lexeme.start() :]
                return attrs.evolve(self, text=text), lexeme.end()
            if lexeme.lastgroup != "separator" or _BRACE_ON_NEXT_LINE.match(self.text, lexeme.start()) is None:
                return None
        return None

    def statement_range(self, place: int) -> tuple[int, int]:
        """The range of the statement around a place; one that opens a block includes the block."""
        start, depth = 0, 0
        for lexeme in _boundaries(self.text):
            if lexeme.start() < place:
                start = lexeme.end()
            elif lexeme.lastgroup == "open":
                depth += 1
            elif depth and lexeme.lastgroup == "close":
                depth -= 1
                if depth == 0:
                    return self.skip_blanks(start), lexeme.end()
            elif depth == 0:
                return self.skip_blanks(start), lexeme.start()
        return self.skip_blanks(start), len(self.text)

    def following_block_end(self, end: int) -> int:
        """The end of a block that stands alone behind a place; the place itself where there is none."""
        opening = _BRACE_ON_NEXT_LINE.match(self.text, end)
        if opening is None:
            return end
        depth = 0
        for lexeme in _boundaries(self.text, opening.end() - 1):
            depth += {"open": 1, "close": -1}.get(lexeme.lastgroup or "", 0)
            if depth == 0:
                return lexeme.end()
        return len(self.text)

    def closes_block(self, place: int) -> bool:
        """Whether a `}` that belongs to a block of the piece stands there."""
        if self.text[place : place + 1] != "}":
            return False
        depth = 0
        for lexeme in _boundaries(self.text):
            if lexeme.start() >= place:
                break
            depth = max(0, depth + {"open": 1, "close": -1}.get(lexeme.lastgroup or "", 0))
        return depth > 0

    def skip_blanks(self, start: int) -> int:
        """The first place from `start` on that is no blank."""
        while start < len(self.text) and self.text[start] in " \t":
            start += 1
        return start


def _repair_header(words: list[str]) -> str | None:
    """The header that was meant; an arm has the name that was written, as far as it is one."""
    if not words or (words[0] in STATEMENTS and words[0] not in _BLOCK_KEYWORDS):
        return None
    kind = _BLOCK_KEYWORDS.get(words[0]) or suggest(words[0], _BLOCK_KEYWORDS.values())
    if kind == "cycle":
        return "cycle 1"
    if kind is None:
        return None
    name = "-".join(words[1:])
    return f"arm {name if _NAME.fullmatch(name) else re.sub(r'[^A-Za-z0-9]|^[0-9]', '_', name) or '_'}"


def split_statements(source: Source) -> Iterator[StatementText]:
    """The statements of the top level, in order."""
    text, start = source.text, 0
    while start < len(text):
        end, opener = _statement_end(text, start)
        written = text[start:end]
        if written.strip() and not written.lstrip().startswith("#"):
            yield StatementText(source, start, written, written if opener is None else written + "\n}", opener)
        start = end + 1


def _statement_end(text: str, start: int) -> tuple[int, int | None]:
    """(the end of the statement at `start`, the offset from there of a brace that is never closed)."""
    stack: list[int] = []
    outermost = None  # where a statement of the top level stands within the open block
    for lexeme in _boundaries(text, start):
        if lexeme.lastgroup == "open":
            stack.append(lexeme.start())
        elif lexeme.lastgroup == "close":
            if stack:
                stack.pop()
            if not stack:
                outermost = None
        elif not stack:
            if _BRACE_ON_NEXT_LINE.match(text, lexeme.start()) is None:
                return lexeme.start(), None
        elif outermost is None and _TOP_LEVEL.match(text, lexeme.end()):
            outermost = lexeme.start(), stack[-1]
    if not stack:
        return len(text), None
    if outermost is not None:
        return outermost[0], outermost[1] - start
    return len(text), stack[-1] - start


def _boundaries(text: str, start: int = 0) -> Iterator[re.Match[str]]:
    """Separators and braces, with those inside comments, strings and continued lists left out."""
    return (m for m in _LEXEME.finditer(text, start) if m.lastgroup in ("separator", "open", "close"))


def comment_ranges(text: str) -> Iterator[tuple[int, int]]:
    """The ranges of the comments."""
    for lexeme in _LEXEME.finditer(text):
        if lexeme.lastgroup == "comment":
            yield lexeme.span()
        elif lexeme.lastgroup == "comma":
            for comment in re.finditer(r"#[^\n]*", lexeme[0]):
                yield lexeme.start() + comment.start(), lexeme.start() + comment.end()


def find_excess_depth(text: str) -> int:
    """Where blocks or lists are nested too deep; 0 where they are not."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return 0
    depth = 0
    for lexeme in _LEXEME.finditer(text):
        if lexeme.lastgroup in ("open", "list"):
            depth += 1
            if depth > MAX_DEPTH:
                return lexeme.start()
        elif lexeme.lastgroup in ("close", "unlist"):
            depth = max(0, depth - 1)
    return 0
