"""Split plan text into statements by separators and braces alone, so that the parser can skip invalid ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from tickdsl.lang.findings.suggestions import suggest
from tickdsl.lang.syntax import Source, Span
from tickdsl.lang.vocabulary import STATEMENTS

#: Maximum nesting of blocks and lists: the code that walks the AST is recursive.
MAX_DEPTH = 32
#: Statements of the top level: an unclosed block is assumed to end before the next one.
TOP_LEVEL_KEYWORDS = ("plan", "let", "include", "seeds", "sweep", "arm", "compare", "report", "stop")

#: Word that opens a block with a pipeline -> the keyword it means.
_BLOCK_KEYWORDS = {"arm": "arm", "cycle": "cycle", "experiment": "arm", "run": "arm"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([-.][A-Za-z0-9_]+)*")
_LEXEME = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<comma>,(?:[ \t\r\n]|#[^\n]*)*)'
    r"|(?P<separator>;|\r?\n)|(?P<open>\{)|(?P<close>\})|(?P<list>\[)|(?P<unlist>\])"
)
_TOP_LEVEL = re.compile(rf"[ \t]*(?:{'|'.join(TOP_LEVEL_KEYWORDS)})(?![\w.=-])[ \t]*[^\s=]")
#: A `{` on a line after its statement.
_BRACE_ON_NEXT_LINE = re.compile(r"[ \t]*\r?\n\s*\{")


@attrs.frozen
class StatementText:
    """A top-level statement with its block, starting at offset `start` of its source.

    `written` is the text in the source. `text` is the text to parse: invalid statements are replaced by spaces, and a
    missing `}` is added at the end.
    """

    source: Source
    start: int
    written: str
    text: str
    #: The offset in `text` of a `{` that is never closed.
    unclosed: int | None = None

    def span(self, start: int, end: int) -> Span:
        length = len(self.written)
        return Span(self.source, self.start + min(start, length), self.start + min(end, length))

    def blanked(self, start: int, end: int) -> StatementText:
        """A copy with the range replaced by spaces; newlines are kept."""
        blank = re.sub(r"[^\r\n]", " ", self.text[start:end])
        return attrs.evolve(self, text=self.text[:start] + blank + self.text[end:])

    def with_repaired_header(self, start: int, offset: int) -> tuple[StatementText, int] | None:
        """Repair the header of the `arm` or `cycle` at `start`, so that its block can still be parsed.

        Returns a copy with a valid header, and the end of the header. Returns None if the error at `offset` is not in
        such a header.
        """
        for lexeme in _boundaries(self.text, start):
            if lexeme.lastgroup == "open" and offset <= lexeme.start():
                header = self.text[start : lexeme.start()]
                repaired = _repair_header(re.findall(r"[\w.-]+", header))
                if repaired is None or len(repaired) > len(header):
                    return None
                text = self.text[:start] + repaired.ljust(len(header)) + self.text[lexeme.start() :]
                return attrs.evolve(self, text=text), lexeme.end()
            if lexeme.lastgroup != "separator" or _BRACE_ON_NEXT_LINE.match(self.text, lexeme.start()) is None:
                return None
        return None

    def statement_range(self, offset: int) -> tuple[int, int]:
        """The range of the statement that contains an offset, including its block."""
        start, depth = 0, 0
        for lexeme in _boundaries(self.text):
            if lexeme.start() < offset:
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
        """The end of a block that opens on the line after `end`; `end` itself if there is none."""
        opening = _BRACE_ON_NEXT_LINE.match(self.text, end)
        if opening is None:
            return end
        depth = 0
        for lexeme in _boundaries(self.text, opening.end() - 1):
            depth += {"open": 1, "close": -1}.get(lexeme.lastgroup or "", 0)
            if depth == 0:
                return lexeme.end()
        return len(self.text)

    def closes_block(self, offset: int) -> bool:
        """Whether the character at an offset is the `}` of a block in this piece."""
        if self.text[offset : offset + 1] != "}":
            return False
        depth = 0
        for lexeme in _boundaries(self.text):
            if lexeme.start() >= offset:
                break
            depth = max(0, depth + {"open": 1, "close": -1}.get(lexeme.lastgroup or "", 0))
        return depth > 0

    def skip_blanks(self, start: int) -> int:
        """The offset of the first character from `start` on that is not a space or tab."""
        while start < len(self.text) and self.text[start] in " \t":
            start += 1
        return start


def _repair_header(words: list[str]) -> str | None:
    """The `arm NAME` or `cycle 1` that was probably meant. An invalid arm name is turned into a valid one."""
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
    """The top-level statements, in order."""
    text, start = source.text, 0
    while start < len(text):
        end, opener = _statement_end(text, start)
        written = text[start:end]
        if written.strip() and not written.lstrip().startswith("#"):
            yield StatementText(source, start, written, written if opener is None else written + "\n}", opener)
        start = end + 1


def _statement_end(text: str, start: int) -> tuple[int, int | None]:
    """(The end of the statement at `start`, the offset from there of a brace that is never closed)."""
    stack: list[int] = []
    outermost = None  # (offset, opening brace) of the first top-level statement inside the open block
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
    """Separators and braces outside comments, strings and continued lists."""
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
    """The offset at which blocks or lists are nested deeper than MAX_DEPTH; 0 if none are."""
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
