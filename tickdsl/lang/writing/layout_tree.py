"""A plan as it stands on the page: statements, the breaks between them, and the comments that belong to them.

The AST forgets how a plan was laid out; this tree keeps what a formatter needs and nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs

from tickdsl.grammar import plan_parser
from tickdsl.lang.vocabulary import SILENCE_COMMENT
from tickdsl.moments import Moment


@attrs.frozen
class Comment:
    """`# …`, and whether an empty line stands above it."""

    text: str
    blank_line_above: bool


@attrs.frozen
class Word:
    """One token in its canonical spelling.

    after: what follows a comma that ends its line: the comment on that line, then those on lines of their own.
    """

    kind: str
    text: str
    line: int
    ends_line: bool = False
    trailing: Comment | None = None
    after: tuple[Comment, ...] = ()


@attrs.frozen
class Block:
    """`{ … }` with the lines that its braces stand on."""

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
        """The line on which it begins."""
        return self.words[0].line

    @property
    def last_line(self) -> int:
        """The line on which it ends."""
        return self.block.close_line if self.block else self.words[-1].line

    @property
    def one_line(self) -> bool:
        return self.first_line == self.last_line


@attrs.frozen
class Row:
    """Statements with nothing but `;` between them, what stands above them, and the comment behind them."""

    above: tuple[Comment, ...]
    blank_line_above: bool
    statements: tuple[Statement, ...]
    trailing: Comment | None

    @property
    def one_line(self) -> bool:
        return self.statements[0].first_line == self.statements[-1].last_line


@attrs.frozen
class Scope:
    """The rows of a file or a block, and the comments below the last one."""

    rows: tuple[Row, ...]
    below: tuple[Comment, ...]


@attrs.frozen
class PlanLayout:
    """A whole plan, and the lines that end in a comment which silences findings."""

    scope: Scope
    silenced: frozenset[int]


@attrs.frozen
class _Token:
    kind: str
    text: str
    line: int


_TRIVIA = re.compile(r"(?P<comment>#[^\n]*)|(?P<newline>\n)")


def read_layout(text: str) -> PlanLayout:
    """The page of a plan whose lines end in newlines only. Raises lark's UnexpectedInput where it does not parse."""
    reader = _LayoutReader(list(_tokens(text)))
    scope = reader.scope()
    return PlanLayout(scope, frozenset(reader.silenced))


def _tokens(text: str) -> Iterator[_Token]:
    """Tokens, comments and newlines in the order written; what follows a comma is told like all else."""
    line, place = 1, 0

    def trivia(part: str) -> Iterator[_Token]:
        nonlocal line
        for match in _TRIVIA.finditer(part):
            yield _Token(match.lastgroup or "", match[0].rstrip(), line)
            line += match[0] == "\n"

    state = plan_parser().parse_interactive(text)
    for token in state.iter_parse():
        start, end = int(token.start_pos or 0), int(token.end_pos or 0)
        yield from trivia(text[place:start])
        match token.type:
            case "_COMMA":
                yield _Token(",", ",", line)
                yield from trivia(str(token)[1:])
            case "_SEP" if token != ";":
                yield from trivia("\n")
            case _:
                yield _Token(token.type, _spelling(token.type, str(token)), line)
        place = end
    state.feed_eof()
    yield from trivia(text[place:])


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
    """Builds the page from its events; the silenced lines gather beside it."""

    def __init__(self, events: list[_Token]) -> None:
        self.events = events
        self.at = 0
        self.silenced: set[int] = set()
        #: The line of the last thing that was not a newline, and of the last word.
        self.previous = 0
        self.word_line = 0

    def _peek(self) -> str:
        return self.events[self.at].kind if self.at < len(self.events) else "end"

    def _next(self) -> _Token:
        event = self.events[self.at]
        self.at += 1
        if event.kind != "newline":
            self.previous = event.line
            if event.kind not in ("comment", "_SEP"):
                self.word_line = event.line
        return event

    def _blank_line_next(self) -> bool:
        """Whether an empty line stands before the next event."""
        return self.previous > 0 and self.events[self.at].line - self.previous > 1

    def _trailing(self) -> Comment | None:
        """The comment on the line of the last word, if that is what comes next."""
        if self._peek() != "comment" or self.events[self.at].line != self.word_line:
            return None
        event = self._next()
        if SILENCE_COMMENT.search(event.text):
            self.silenced.add(event.line)
        return Comment(event.text, blank_line_above=False)

    def _comments(self) -> tuple[Comment, ...]:
        """Comments on lines of their own, and the empty lines between them."""
        found = []
        while self._peek() in ("newline", "comment", "_SEP"):
            if self._peek() == "comment":
                blank_line_above = self._blank_line_next()
                found.append(Comment(self._next().text, blank_line_above))
            else:
                self._next()
        return tuple(found)

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
            event = self._next()
            word = Word(event.kind, event.text, event.line)
            if event.kind == "," and self._peek() in ("newline", "comment"):
                trailing = self._trailing()
                words.append(attrs.evolve(word, ends_line=True, trailing=trailing, after=self._comments()))
                continue
            if event.kind != "," or self._peek() != "RSQB":
                words.append(word)
        return Statement(tuple(words), self._block() if self._peek() == "LBRACE" else None)

    def _block(self) -> Block:
        open_line = self._next().line
        while self._peek() == "_SEP":
            self._next()
        trailing = self._trailing()
        scope = self.scope()
        return Block(open_line, self._next().line, trailing, scope)
