"""Generate the TextMate grammar of plans from the vocabulary: `python grammar/editors/textmate.py`.

VS Code, Sublime Text, TextMate, JetBrains IDEs and GitHub's Linguist read TextMate grammars. The patterns only use
syntax that Oniguruma and Python's `re` share, so that the tests can run them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tickdsl.lang import vocabulary
from tickdsl.lang.reading import highlight

TARGET = Path(__file__).parent / "vscode" / "syntaxes" / "tickdsl.tmLanguage.json"
_AT_STATEMENT = r"(?:^|(?<=[;{]))[ \t]*"


def _words(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(word.replace('.', '[.]') for word in longest_first)}){highlight.WORD_END}"


def _rule(match: str, name: str | None = None, **captures: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"match": match}
    if name is not None:
        rule["name"] = f"{name}.tickdsl"
    if captures:
        rule["captures"] = {key[1:]: {"name": f"{scope}.tickdsl"} for key, scope in captures.items()}
    return rule


def grammar() -> dict[str, Any]:
    """The TextMate grammar. At each position of a line, the first matching rule wins."""
    defined = "|".join(highlight.DEFINING_KEYWORDS)
    return {
        "$schema": "https://raw.githubusercontent.com/martinring/tmlanguage/master/tmlanguage.json",
        "name": "tickdsl plan",
        "scopeName": "source.tickdsl",
        "fileTypes": ["plan"],
        "patterns": [
            _rule(highlight.COMMENT, "comment.line.number-sign"),
            _rule(highlight.STRING, "string.quoted.double"),
            _rule(
                rf"{_AT_STATEMENT}({defined})[ \t]+({highlight.NAME})",
                _1="keyword.control",
                _2="entity.name.function",
            ),
            _rule(rf"{_AT_STATEMENT}({_words(vocabulary.STATEMENTS)})", _1="keyword.control"),
            _rule(highlight.VARIABLE, "variable.other"),
            _rule(
                rf"({highlight.NAME})[ \t]*(=)",
                _1="variable.parameter",
                _2="keyword.operator",
            ),
            _rule(highlight.PATTERN, "entity.name"),
            _rule(highlight.LENGTH, "constant.numeric"),
            _rule(highlight.PERCENT, "constant.numeric"),
            _rule(rf"(?<![\w.-]){highlight.TIMES}", "keyword.operator.word"),
            _rule(highlight.NUMBER, "constant.numeric"),
            _rule(_words(vocabulary.CLAUSE_WORDS), "keyword.operator.word"),
            _rule(_words(highlight.builtin_words()), "support.constant"),
            _rule(highlight.NAME, "entity.name"),
            _rule(r"<=|>=|<|>|\.\.|=", "keyword.operator"),
            _rule(r"[\[\]{},;]", "punctuation"),
        ],
    }


def text() -> str:
    """The content of TARGET."""
    return json.dumps(grammar(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")
