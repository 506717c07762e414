"""Text to AST. A broken statement is reported, blanked out and the rest is read on: one pass, all errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from tickdsl.errors import TickdslError
from tickdsl.grammar import parser
from tickdsl.lang import vocabulary
from tickdsl.lang.build import build
from tickdsl.lang.diagnostics import Diagnostic, Label, did_you_mean, listing
from tickdsl.lang.syntax import File, Source, Span

#: How many broken statements are reported before the reader gives up.
LIMIT = 20

_LEXEME = re.compile(
    r'(?P<comment>#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"?)|(?P<comma>,(?:[ \t\r\n]|#[^\n]*)*)'
    r"|(?P<separator>;|\r?\n)|(?P<open>\{)|(?P<close>\})"
)
_TOKEN_AT = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[A-Za-z0-9_]+(?:[-.][A-Za-z0-9_]+)*%?|\$\w*|\.\.|<=|>=|\S')

#: What the parser's terminals are called in messages.
_TERMINALS = {
    "UNIT": "a unit (weights, filters, neurons, layers or blocks)",
    "SCOPE": "a scope (global, local or uniform)",
    "BASE": "`remaining` or `original`",
    "WHAT": "`lr` or `weights`",
    "SPLIT_BY": "`classes` or `samples`",
    "CMP": "a comparison (<, <=, >, >=)",
    "_TIMES": "`x N`",
    "SPAN": "a length such as `160ep` or `500it`",
    "PERCENT": "a percentage such as `20%`",
    "NUMBER": "a number",
    "INT": "a whole number",
    "NAME": "a name",
    "STRING": 'a quoted "string"',
    "_DOTS": "`..`",
    "_COMMA": "`,`",
    "_SEP": "the end of the statement",
    "$END": "the end of the statement",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "EQUAL": "`=`",
    "LSQB": "a list `[…]`",
    "RSQB": "`]`",
    "DOLLAR": "a variable `$name`",
}
_CLOSED = {
    "UNIT": vocabulary.UNITS,
    "SCOPE": vocabulary.SCOPES,
    "BASE": ("remaining", "original"),
    "WHAT": vocabulary.REWINDS,
    "SPLIT_BY": vocabulary.SPLITS,
}


def read(path: str | Path) -> Source:
    """Read a plan file (UTF-8, a byte-order mark is skipped). Raises TickdslError where that fails."""
    try:
        return Source(str(path), Path(path).read_text("utf-8-sig"))
    except FileNotFoundError:
        raise TickdslError(f"{path}: there is no such file", "name a .plan file, e.g. plans/card.plan") from None
    except UnicodeDecodeError as error:
        raise TickdslError(f"{path}: not UTF-8 text (byte {error.start})", "save the plan as UTF-8") from None
    except OSError as error:
        raise TickdslError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise TickdslError(f"{str(path)!r} is no path") from None


def parse(source: Source) -> tuple[File, tuple[Diagnostic, ...]]:
    """The AST of what can be read, and one finding for each statement that cannot."""
    text = source.text
    findings: list[Diagnostic] = []
    while len(findings) <= LIMIT:
        try:
            tree = parser().parse(text)
        except UnexpectedInput as error:
            finding, text = _recover(error, source, text)
            findings.append(finding)
        else:
            return build(tree, source), tuple(findings)
    return File((), source), tuple(findings)


def _recover(error: UnexpectedInput, source: Source, text: str) -> tuple[Diagnostic, str]:
    """Explain one syntax error, and the text without the statement that holds it."""
    place = _place(error, text)
    if place >= len(text.rstrip()) and (opener := _unclosed(text)) is not None:
        word = _statement(text, opener)
        span = Span(source, word[0], min(opener + 1, len(source.text)))
        end = len(source.text)
        finding = Diagnostic(
            "TD003",
            f"`{span.text.strip()}` is never closed",
            span,
            label="opened here",
            secondary=(Label(Span(source, end, end), "the file ends here"),) if end > span.end else (),
            help="close the block with `}`",
        )
        return finding, text + "\n}"
    finding = _explain(error, source, text, place)
    start, end = _statement(text, place)
    end = min(max(end, finding.span.end), len(text))
    if text[start:end].strip() == "":
        start, end = place, min(place + 1, len(text))
    return finding, _blank(text, start, end)


def _place(error: UnexpectedInput, text: str) -> int:
    """Where the error stands; at the end of the text Lark names no place of its own."""
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return len(text)
    place = getattr(token, "start_pos", None) if token is not None else error.pos_in_stream
    return len(text) if place is None else int(place)


def _lexemes(text: str) -> Iterator[re.Match[str]]:
    """Separators and braces, with those inside comments, strings and continued lists left out."""
    return (m for m in _LEXEME.finditer(text) if m.lastgroup in ("separator", "open", "close"))


def _unclosed(text: str) -> int | None:
    """The offset of the innermost `{` that nothing closes."""
    stack: list[int] = []
    for lexeme in _lexemes(text):
        if lexeme.lastgroup == "open":
            stack.append(lexeme.start())
        elif lexeme.lastgroup == "close" and stack:
            stack.pop()
    return stack[-1] if stack else None


def _statement(text: str, place: int) -> tuple[int, int]:
    """The range of the statement around a place; one that opens a block includes the block."""
    start, depth = 0, 0
    for lexeme in _lexemes(text):
        if lexeme.start() < place:
            start = lexeme.end()
        elif lexeme.lastgroup == "open":
            depth += 1
        elif depth and lexeme.lastgroup == "close":
            depth -= 1
            if depth == 0:
                return _trim(text, start), lexeme.end()
        elif depth == 0:
            return _trim(text, start), lexeme.start()
    return _trim(text, start), len(text)


def _trim(text: str, start: int) -> int:
    while start < len(text) and text[start] in " \t":
        start += 1
    return start


def _blank(text: str, start: int, end: int) -> str:
    return text[:start] + re.sub(r"[^\r\n]", " ", text[start:end]) + text[end:]


def _expected(error: UnexpectedInput) -> set[str]:
    if isinstance(error, UnexpectedToken):
        return set(error.accepts or error.expected)
    return set(getattr(error, "allowed", None) or ())


def _words(expected: set[str]) -> set[str]:
    """The words that could stand here."""
    words = {name.lower() for name in expected if name.isalpha() and name.lower() in _KEYWORDS}
    for name in expected & set(_CLOSED):
        words.update(_CLOSED[name])
    return words


_KEYWORDS = {
    *vocabulary.STATEMENTS,
    "in",
    "on",
    "of",
    "to",
    "matching",
    "until",
    "by",
    "at",
    "except",
    "from",
    "when",
}


def _explain(error: UnexpectedInput, source: Source, text: str, place: int) -> Diagnostic:
    """The finding for one syntax error: the known mistakes by name, the others as expected and found."""
    expected = _expected(error)
    match = _TOKEN_AT.match(text, place)
    found = match[0] if match and text[place] not in "\r\n;" else ""
    span = Span(source, place, place + max(len(found), 1 if place < len(source.text) else 0))
    words = _words(expected)
    may_end = "_SEP" in expected or "$END" in expected
    at_start = "PRUNE" in expected

    if found and found != found.lower() and found.lower() in words:
        return Diagnostic("TD011", f"keywords are lower-case: `{found.lower()}`", span, help=f"write `{found.lower()}`")
    if at_start and found and (found[0].isalpha() or found[0] == "_"):
        return Diagnostic(
            "TD010",
            f"unknown statement `{found}`",
            span,
            label=did_you_mean(found, vocabulary.STATEMENTS) or "",
            help=f"a statement begins with {listing(vocabulary.STATEMENTS, 20)}",
        )
    if found == "," and may_end:
        rest = _TOKEN_AT.match(text, _trim(text, place + 1))
        if rest and rest[0] in vocabulary.STATEMENTS:
            return Diagnostic(
                "TD013",
                "`,` cannot separate statements",
                span,
                help=f"write `; {rest[0]}` or begin a new line",
            )
    if may_end and found in vocabulary.STATEMENTS:
        return Diagnostic(
            "TD012",
            f"two statements on one line need `;` between them, before `{found}`",
            span,
            help=f"write `; {found}` or begin a new line",
        )
    if isinstance(error, UnexpectedCharacters) and found and not (found[0].isascii() and found[0].isprintable()):
        return Diagnostic(
            "TD004", f"`{found[0]}` is not used in plans", Span(source, place, place + 1), help="remove it"
        )
    return _unexpected(source, text, place, found, span, expected, words)


def _unexpected(
    source: Source, text: str, place: int, found: str, span: Span, expected: set[str], words: set[str]
) -> Diagnostic:
    start = _statement(text, place)[0]
    before = text[start:place].split()
    after = f" after `{before[-1]}`" if before else ""
    what = _describe(expected)
    here = f"found `{found}`" if found else "the statement ends here"
    near = did_you_mean(found, words) if found else None
    return Diagnostic(
        "TD001", f"expected {what}{after}; {here}", span, label=near or "", help=_cure(before, expected, near)
    )


def _describe(expected: set[str]) -> str:
    if "PRUNE" in expected:
        return "a statement" + (" or `}`" if "RBRACE" in expected else "")
    if {"PERCENT", "TO", "MATCHING"} <= expected:
        scope = "a scope (global, local or uniform) or " if "SCOPE" in expected else ""
        return f"{scope}an amount (`20%`, `3`, `to 95%` or `matching ARM`)"
    if {"STRING", "LSQB", "PERCENT"} <= expected:
        return "a value (a number, a percentage, a length, a name, a list or `$name`)"
    names = {_TERMINALS.get(name, f"`{name.lower()}`") for name in expected}
    end = _TERMINALS["_SEP"]
    ordered = sorted(names - {end}, key=lambda n: (n.startswith("`"), n)) + ([end] if end in names else [])
    return listing(ordered, 9)


def _cure(before: list[str], expected: set[str], near: str | None) -> str | None:
    example = _EXAMPLES.get(before[0]) if before else None
    if near or example is None:
        return None
    return f"for example `{example}`"


_EXAMPLES = {
    "plan": "plan 1",
    "let": "let budget = 160ep",
    "include": 'include "common.plan"',
    "seeds": "seeds 3",
    "sweep": "sweep scope in [local, global]",
    "model": "model vgg16 on cifar10",
    "data": "data cifar10",
    "split": "split classes 2",
    "train": "train 160ep lr=0.1 batch=128 milestones=[80ep, 120ep]",
    "prune": "prune filters global 20% x 8 by l1",
    "overlap": "overlap 2 of 2",
    "rewind": "rewind weights to 5%",
    "retrain": "retrain fine-tune 40ep lr=0.001",
    "distill": "distill from dense temperature=5",
    "transfer": "transfer to cifar10 head=reset",
    "cycle": "cycle 8 { prune filters global 20%; rewind lr }",
    "arm": "arm lth { prune weights global 20% x 8; rewind weights to init }",
    "compare": "compare random-init, dense",
    "report": "report accuracy, sparsity, params",
    "stop": "stop when accuracy < 90%",
}
