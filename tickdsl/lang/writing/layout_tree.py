"""The layout of a plan: its statements with the line breaks, blank lines and comments that the AST drops."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from tickdsl.grammar import plan_parser
from tickdsl.lang.vocabulary import SILENCE_COMMENT
from tickdsl.moments import Moment


@attrs.frozen
class Comment:
    """A comment, and whether there is a blank line above it."""

    text: str
    blank_line_above: bool


@attrs.frozen
class Word:
    """A token in its canonical spelling.

    For a comma that ends its line, `trailing` is the comment on that line and `after` holds the comments on the lines
    below.
    """

    kind: str
    text: str
    line: int
    ends_line: bool = False
    trailing: Comment | None = None
    after: tuple[Comment, ...] = ()


@attrs.frozen
class Block:
    """`{ … }` with the line numbers of its braces."""

    open_line: int
    close_line: int
    trailing: Comment | None
    scope: Scope


@attrs.frozen
class Statement:
    words: tuple[Word, ...]
    block: Block | None

    @property
    def first_line(self) -> int:
        """The line number of the first word."""
        return self.words[0].line

    @property
    def last_line(self) -> int:
        """The line number of the last word or the closing brace."""
        return self.block.close_line if self.block else self.words[-1].line

    @property
    def one_line(self) -> bool:
        return self.first_line == self.last_line


@attrs.frozen
class Row:
    """Statements separated by `;` alone, with the comments above them and the comment after them."""

    above: tuple[Comment, ...]
    blank_line_above: bool
    statements: tuple[Statement, ...]
    trailing: Comment | None

    @property
    def one_line(self) -> bool:
        return self.statements[0].first_line == self.statements[-1].last_line


@attrs.frozen
class Scope:
    """The rows of a file or block, and the comments below the last one."""

    rows: tuple[Row, ...]
    below: tuple[Comment, ...]


@attrs.frozen
class PlanLayout:
    """A whole plan, and the numbers of the lines that end in a `# ok` comment."""

    scope: Scope
    silenced: frozenset[int]


@attrs.frozen
class _Token:
    kind: str
    text: str
    line: int


_TRIVIA = re.compile(r"(?P<comment>#[^\n]*)|(?P<newline>\n)")


def read_layout(text: str) -> PlanLayout:
    """Read the layout of a plan with `\\n` newlines. Raises lark's UnexpectedInput if it does not parse."""
    reader = _LayoutReader(list(_tokens(text)))
    scope = reader.scope()
    return PlanLayout(scope, frozenset(reader.silenced))


def _tokens(text: str) -> Iterator[_Token]:
    """Tokens, comments and newlines, in order. The parser's comma token, which swallows newlines, is taken apart."""
    line, position = 1, 0

    def trivia(part: str) -> Iterator[_Token]:
        nonlocal line
        for match in _TRIVIA.finditer(part):
            yield _Token(match.lastgroup or "", match[0].rstrip(), line)
            line += match[0] == "\n"

    state = plan_parser().parse_interactive(text)
    for token in state.iter_parse():
        start, end = int(token.start_pos or 0), int(token.end_pos or 0)
        yield from trivia(text[position:start])
        match token.type:
            case "_COMMA":
                yield _Token(",", ",", line)
                yield from trivia(str(token)[1:])
            case "_SEP" if token != ";":
                yield from trivia("\n")
            case _:
                yield _Token(token.type, _spelling(token.type, str(token)), line)
        position = end
    state.feed_eof()
    yield from trivia(text[position:])


def _spelling(kind: str, text: str) -> str:
    match kind:
        case "_TIMES":
            return "x"
        case "PERCENT":
            return text.rstrip("%").rstrip() + "%"
        case "SPAN":
            unit = Moment.parse(text).unit
            return re.match(r"[\d.]+", text)[0] + unit  # type: ignore[index]
    return text


class _LayoutReader:
    """Builds the layout tree from tokens, and collects the silenced lines."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.silenced: set[int] = set()
        #: The lines of the last token that was not a newline, and of the last word.
        self.previous_line = 0
        self.word_line = 0

    def _peek(self) -> str:
        return self.tokens[self.position].kind if self.position < len(self.tokens) else "end"

    def _next(self) -> _Token:
        token = self.tokens[self.position]
        self.position += 1
        if token.kind != "newline":
            self.previous_line = token.line
            if token.kind not in ("comment", "_SEP"):
                self.word_line = token.line
        return token

    def _blank_line_next(self) -> bool:
        """Whether there is a blank line before the next token."""
        return self.previous_line > 0 and self.tokens[self.position].line - self.previous_line > 1

    def _trailing(self) -> Comment | None:
        """The comment at the end of the last word's line, if it is the next token."""
        if self._peek() != "comment" or self.tokens[self.position].line != self.word_line:
            return None
        token = self._next()
        if SILENCE_COMMENT.search(token.text):
            self.silenced.add(token.line)
        return Comment(token.text, blank_line_above=False)

    def _comments(self) -> tuple[Comment, ...]:
        """The comments on the following lines of their own."""
        comments = []
        while self._peek() in ("newline", "comment", "_SEP"):
            if self._peek() == "comment":
                blank_line_above = self._blank_line_next()
                comments.append(Comment(self._next().text, blank_line_above))
            else:
                self._next()
        return tuple(comments)

    def scope(self) -> Scope:
        rows: list[Row] = []
        while True:
            above = self._comments()
            if self._peek() in ("end", "RBRACE"):
                return Scope(tuple(rows), above)
            rows.append(self._row(above))

    def _row(self, above: tuple[Comment, ...]) -> Row:
        blank_line_above = self._blank_line_next()
        statements = [self._statement()]
        while self._peek() == "_SEP":
            self._next()
            if self._peek() not in ("newline", "comment", "_SEP", "RBRACE", "end"):
                statements.append(self._statement())
        return Row(above, blank_line_above, tuple(statements), self._trailing())

    def _statement(self) -> Statement:
        words = []
        while self._peek() not in ("newline", "comment", "_SEP", "LBRACE", "RBRACE", "end"):
            token = self._next()
            word = Word(token.kind, token.text, token.line)
            if token.kind == "," and self._peek() in ("newline", "comment"):
                trailing = self._trailing()
                words.append(attrs.evolve(word, ends_line=True, trailing=trailing, after=self._comments()))
                continue
            if token.kind != "," or self._peek() != "RSQB":  # drop a trailing comma in a list
                words.append(word)
        return Statement(tuple(words), self._block() if self._peek() == "LBRACE" else None)

    def _block(self) -> Block:
        open_line = self._next().line
        while self._peek() == "_SEP":
            self._next()
        trailing = self._trailing()
        scope = self.scope()
        return Block(open_line, self._next().line, trailing, scope)
