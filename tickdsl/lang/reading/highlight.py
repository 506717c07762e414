"""Syntax highlighting: a Pygments lexer, registered as `tickdsl`. It accepts invalid plans too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pygments.lexer import RegexLexer, bygroups, default, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

from tickdsl.lang import registries, vocabulary

NAME = r"[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*"
#: A pattern of layers without quotes: `layer1.**`.
PATTERN = r"(?:[A-Za-z_][A-Za-z0-9_]*(?:[-.][A-Za-z0-9_]+)*[-.]?)?\*[A-Za-z0-9_*]*(?:[-.][A-Za-z0-9_*]+)*"
#: The end of a word: `prune-x` and `prune.x` are names, not keywords.
WORD_END = r"(?![A-Za-z0-9_]|[-.][A-Za-z0-9_])"
COMMENT = r"#[^\n]*"
STRING = r'"(?:[^"\\\n]|\\.)*"?'
LENGTH = r"\d+(?:\.\d+)?[ \t]*(?:epochs?|ep|iterations?|iters?|it|steps?)(?![\w-])"
PERCENT = r"\d+(?:\.\d+)?[ \t]*%"
NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
TIMES = r"[x×](?=[ \t]*[\d$])"
VARIABLE = r"\$[ \t]*" + NAME
#: Statements that define the name after their keyword.
DEFINING_KEYWORDS = ("let", "sweep", "arm")


def builtin_words() -> tuple[str, ...]:
    """All words with a built-in meaning that are not keywords, longest first."""
    closed = (word for group in vocabulary.CLOSED_WORDS.values() for word in group)
    names = {
        *closed,
        *registries.CRITERIA.builtin,
        *vocabulary.CONTROLS,
        vocabulary.ALL_ARMS,
        *vocabulary.METRICS,
        *registries.SCHEDULES.builtin,
        *vocabulary.MOMENT_WORDS,
    }
    return tuple(sorted(names, key=lambda word: (-len(word), word)))


def _any(choices: Iterable[str]) -> words:
    return words(tuple(choices), suffix=WORD_END)


class PlanLexer(RegexLexer):  # type: ignore[misc]  # Pygments has no types
    """Lexer for plans, with the states `root` (at the start of a statement), `statement` and `comma`."""

    name = "tickdsl plan"
    aliases: ClassVar[list[str]] = ["tickdsl", "plan"]
    filenames: ClassVar[list[str]] = ["*.plan"]
    url = "https://github.com/tickdsl/tickdsl"
    version_added = ""

    tokens: ClassVar[dict[str, Any]] = {
        "root": [
            (r"[ \t\r\f\n]+", Whitespace),
            (COMMENT, Comment.Single),
            (r"[;{}]", Punctuation),
            (
                rf"({'|'.join(DEFINING_KEYWORDS)})([ \t\f]+)({NAME})",
                bygroups(Keyword, Whitespace, Name.Variable.Global),
                "statement",
            ),
            (_any(vocabulary.STATEMENTS), Keyword, "statement"),
            default("statement"),
        ],
        "statement": [
            (r"\r?\n|[;{}]", Punctuation, "#pop"),
            (r"[ \t\f\r]+", Whitespace),
            (COMMENT, Comment.Single),
            (r"(,)([ \t\r\f]*)", bygroups(Punctuation, Whitespace), "comma"),
            (STRING, String.Double),
            (VARIABLE, Name.Variable),
            (rf"({NAME})([ \t\f]*)(=)", bygroups(Name.Attribute, Whitespace, Operator)),
            (PATTERN, Name),
            (LENGTH, Number),
            (PERCENT, Number),
            (TIMES, Operator.Word),
            (NUMBER, Number),
            (_any(vocabulary.CLAUSE_WORDS), Operator.Word),
            (_any(builtin_words()), Name.Builtin),
            (NAME, Name),
            (r"<=|>=|<|>|\.\.|=", Operator),
            (r"[\[\]]", Punctuation),
            (r".", Name),
        ],
        # A newline after a comma does not end the statement.
        "comma": [
            (r"[ \t\r\f\n]+", Whitespace),
            (COMMENT, Comment.Single),
            default("#pop"),
        ],
    }
