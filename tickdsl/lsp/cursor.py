"""Find the statements of a text, valid or not, and the terminals that the parser accepts at a cursor position."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs
from lark import Token
from lark.exceptions import UnexpectedInput

from tickdsl.grammar import plan_parser

_LEXEME = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<comma>,(?:[ \t\r\n]|#[^\n]*)*)'
    r"|(?P<break>[;\n{}])|(?P<words>[^#\",;\n{}]+)"
)
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_INCLUDE = re.compile(r'include[ \t\f]*("(?:[^"\\\n]|\\.)*")')
_WORD_BEFORE = re.compile(r"(?:\$|[A-Za-z0-9_])[A-Za-z0-9_.-]*\Z")
_WORD_AFTER = re.compile(r"[A-Za-z0-9_.-]*")
_HEAD = re.compile(r"[a-z]+")
_SUBJECT = re.compile(r"\s*(?P<what>model|data)\s+(?P<name>[\w.-]+)(?:\s+on\s+(?P<on>[\w.-]+))?")
_DEFINITION = re.compile(r"(let|sweep|arm)[ \t\f]+([A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*)")


@attrs.frozen
class StatementRange:
    """The range of a statement without its block, and the keywords of the enclosing blocks, outermost first."""

    start: int
    end: int
    enclosing: tuple[str, ...]


@attrs.frozen
class CursorContext:
    """The word at a cursor position, and its context.

    before: the tokens of the statement before the word. accepts: the terminals that the parser accepts here.
    enclosing: the keywords of the enclosing blocks, outermost first.
    """

    word: str
    start: int
    end: int
    before: tuple[Token, ...]
    accepts: frozenset[str]
    enclosing: tuple[str, ...]

    @property
    def statement(self) -> str:
        """The keyword of the statement; "" at its start."""
        return str(self.before[0]) if self.before else ""


def statement_ranges(text: str) -> Iterator[StatementRange]:
    """Yield the ranges of all statements, in order."""
    enclosing: list[str] = []
    start: int | None = None
    for lexeme in _LEXEME.finditer(text):
        if lexeme.lastgroup == "break":
            head = StatementRange(lexeme.start() if start is None else start, lexeme.start(), tuple(enclosing))
            if start is not None:
                yield head
            if lexeme[0] == "{":
                word = _HEAD.match(text, head.start)
                enclosing.append(word[0] if word else "")
            elif lexeme[0] == "}" and enclosing:
                enclosing.pop()
            start = None
        elif lexeme.lastgroup != "comment" and start is None and lexeme[0].strip():
            start = lexeme.start() + len(lexeme[0]) - len(lexeme[0].lstrip())
    if start is not None:
        yield StatementRange(start, len(text), tuple(enclosing))


def definitions(text: str) -> dict[str, dict[str, str]]:
    """`let`, `sweep` or `arm` -> name -> statement text. Works for plans that do not parse."""
    defined: dict[str, dict[str, str]] = {"let": {}, "sweep": {}, "arm": {}}
    for head in statement_ranges(text):
        match = _DEFINITION.match(text, head.start, head.end)
        if match is not None:
            defined[match[1]].setdefault(match[2], text[head.start : head.end].strip())
    return defined


def subjects(text: str) -> tuple[str, str]:
    """The model and the data set that a text names first, empty if there is none. Works for plans that do not parse."""
    found = {"model": "", "data": ""}
    for head in statement_ranges(text):
        match = _SUBJECT.match(text, head.start, head.end)
        if match is not None:
            found[match["what"]] = found[match["what"]] or match["name"]
            found["data"] = found["data"] or match["on"] or ""
    return found["model"], found["data"]


def includes(text: str) -> list[str]:
    """The paths of the `include` statements of a text."""
    matches = (_INCLUDE.match(text, head.start, head.end) for head in statement_ranges(text))
    return [re.sub(r"\\(.)", r"\1", match[1][1:-1]) for match in matches if match is not None]


def locate(text: str, offset: int) -> CursorContext | None:
    """The cursor context at an offset. None in comments and strings, and after a syntax error in the statement."""
    before = text[:offset]
    if _in_comment_or_string(before):
        return None
    word = _WORD_BEFORE.search(before)
    start = word.start() if word else offset
    after = _WORD_AFTER.match(text, offset)
    end = after.end() if after and (word or after[0]) else offset
    *_, current = statement_ranges(text[:start] + "_")
    enclosing = current.enclosing
    # `arm a {` is three tokens; it stands in for each enclosing block.
    parsed = _parse_prefix("arm a {" * len(enclosing) + text[current.start : start])
    if parsed is None:
        return None
    tokens, accepts = parsed
    statement_tokens = tuple(tokens[3 * len(enclosing) :])
    return CursorContext(text[start:end], start, end, statement_tokens, frozenset(accepts), enclosing)


def _in_comment_or_string(before: str) -> bool:
    lexemes = [*_LEXEME.finditer(before)]
    if not lexemes:
        return False
    last = lexemes[-1]
    if last.lastgroup == "string":
        return _STRING.fullmatch(last[0]) is None
    return last.lastgroup in ("comment", "comma") and "#" in last[0].rpartition("\n")[2]


def _parse_prefix(text: str) -> tuple[list[Token], set[str]] | None:
    """(Tokens, accepted terminals) after parsing a text; None if it has a syntax error."""
    state = plan_parser().parse_interactive(text)
    try:
        tokens = list(state.iter_parse())
    except UnexpectedInput:
        return None
    return tokens, state.accepts()
