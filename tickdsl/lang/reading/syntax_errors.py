"""Turn parser errors into diagnostics: known mistakes by name, others as "expected …; found …"."""

from __future__ import annotations

import re

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from tickdsl.lang import registries, vocabulary
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.findings.suggestions import did_you_mean, join_or
from tickdsl.lang.reading.corrections import example, suggest_correction
from tickdsl.lang.reading.phrases import correct_phrase
from tickdsl.lang.reading.statements import StatementText
from tickdsl.lang.syntax import Span

_TOKEN_AT = re.compile(r'"(?:[^"\\\n]|\\.)*"?|[A-Za-z0-9_]+(?:[-.][A-Za-z0-9_]+)*%?|\$\w*|\.\.|<=|>=|//|\S')

#: Grammar terminal -> its description in messages.
_TERMINAL_LABELS = {
    "UNIT": f"a unit ({join_or(vocabulary.UNITS)})",
    "SCOPE": "a scope (global, local or uniform)",
    "BASE": "a base (remaining or original)",
    "WHAT": "what to rewind (lr, weights, signs, magnitudes or mask)",
    "SPLIT_BY": "what to split (classes or samples)",
    "CMP": "a comparison (<, <=, >, >=)",
    "_TIMES": "`x N`",
    "SPAN": "a length such as `160ep` or `500it`",
    "PERCENT": "a percentage such as `20%`",
    "NUMBER": "a number",
    "NEGATIVE": "a number",
    "INT": "a whole number",
    "NAME": "a name",
    "PATTERN": "a name",
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
    "COLON": "`:`",
    "COST": "a cost (flops, params or latency)",
}
_CLOSED_WORDS = {
    "UNIT": vocabulary.UNITS,
    "SCOPE": vocabulary.SCOPES,
    "BASE": ("remaining", "original"),
    "COST": vocabulary.COSTS,
    "WHAT": vocabulary.REWIND_TARGETS,
    "SPLIT_BY": vocabulary.SPLIT_KINDS,
}
#: Word from other tools and languages -> the statement to use instead.
_FOREIGN_KEYWORDS = {
    **dict.fromkeys(("align", "match", "permute", "rebasin"), "rewind mask of next seed align=dense"),
    "activations": "rewind mask of next seed align=dense match=activations",
    **dict.fromkeys(("noise", "jitter"), "perturb 5%"),
    "network": "model vgg16", "net": "model vgg16", "dataset": "data cifar10", "epochs": "train 160ep",
    "epoch": "train 160ep", "lr": "train lr=0.1", "batch": "train batch=128", "optimizer": "train opt=sgd",
    "import": 'include "common.plan"', "seed": "seeds 3", "random_seed": "seeds 3", "repeat": "cycle 8 { … }",
    "for": "cycle 8 { … }", "loop": "cycle 8 { … }", "rounds": "prune … x 8", "finetune": "retrain fine-tune 40ep",
    "fine-tune": "retrain fine-tune 40ep", "experiment": "arm NAME { … }", "run": "arm NAME { … }",
    "set": "let NAME = VALUE", "var": "let NAME = VALUE", "const": "let NAME = VALUE", "def": "let NAME = VALUE",
    "metrics": "report accuracy, sparsity", "print": "report accuracy, sparsity", "reset": "rewind weights to init",
    "evaluate": "report accuracy, flops", "test": "report accuracy, flops", "fit": "train 160ep",
    "sparsity": "prune weights to 90%", "pruning": "prune weights 20%", "quit": "stop when accuracy < 90%",
    "name": "arm NAME { … }", "use": 'include "common.plan"', "from": "rewind weights to init",
    "reinit": "compare random-init", "mask": "prune weights 20%", "sparsify": "prune weights 20%",
}  # fmt: skip
#: Invisible or misleading character -> its description.
_LOOKALIKES = {
    "\u00a0": "a non-breaking space", "\u200b": "a zero-width space", "\ufeff": "a byte-order mark",
    "\u2009": "a thin space", "\u202f": "a narrow non-breaking space", "\u3000": "a full-width space",
    "“": "a typographic quote", "”": "a typographic quote",
    "‘": "a typographic quote", "’": "a typographic quote", "–": "a dash", "—": "a dash", "−": "a minus sign",
    "％": "a full-width percent sign", "＝": "a full-width equals sign", "，": "a full-width comma",
    "；": "a full-width semicolon",
    "≤": "a single character; write `<=`", "≥": "a single character; write `>=`", "＋": "a full-width plus sign",
}  # fmt: skip


def diagnose_syntax_error(error: UnexpectedInput, piece: StatementText) -> tuple[Diagnostic, tuple[int, int]]:
    """The diagnostic for a syntax error in a piece, and the range of the statement that contains the error."""
    text = piece.text
    offset = _error_offset(error, text)
    diagnostic = _diagnose(error, piece, offset)
    start, end = piece.statement_range(offset)
    block_end = piece.following_block_end(end)
    if block_end > end:
        return diagnostic, (start, block_end)
    if not piece.closes_block(offset):
        end = min(max(end, diagnostic.span.end - piece.start), len(text))
    if not text[start:end].strip():
        start, end = offset, min(offset + 1, len(text))
    return diagnostic, (start, end)


def _error_offset(error: UnexpectedInput, text: str) -> int:
    """The offset of the error. Lark gives none for an error at the end of the text."""
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return len(text)
    offset = getattr(token, "start_pos", None) if token is not None else error.pos_in_stream
    return len(text) if offset is None else int(offset)


def _expected_terminals(error: UnexpectedInput) -> set[str]:
    if isinstance(error, UnexpectedToken):
        return set(error.accepts or error.expected)
    return set(getattr(error, "allowed", None) or ())


def _expected_words(expected: set[str]) -> set[str]:
    """The keywords and closed words among the expected terminals."""
    words = {name.lower() for name in expected if name.isalpha() and name.lower() in _KEYWORDS}
    for name in expected & set(_CLOSED_WORDS):
        words.update(_CLOSED_WORDS[name])
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


#: What the parser accepts where an option of `prune` may begin.
_CLAUSES = frozenset({"_TIMES", "UNTIL", "BY", "AT", "IN", "EXCEPT", "_SEP"})


def _misread_option(piece: StatementText, offset: int) -> int | None:
    """Where the word before an error begins that the parser took for the key of an option of `prune`; else None."""
    before = piece.text[piece.statement_range(offset)[0] : offset]
    word = re.search(r"(\S+)\s*$", before)
    if word is None or not before.startswith("prune") or word[1] in vocabulary.STATEMENTS:
        return None
    return offset - len(before) + word.start()


def _diagnose(error: UnexpectedInput, piece: StatementText, offset: int) -> Diagnostic:
    text, expected = piece.text, _expected_terminals(error)
    if expected == {"EQUAL"} and (start := _misread_option(piece, offset)) is not None:
        is_listing = re.search(r"\b(in|except)\s[^=]*$", text[:start]) is not None
        offset, expected = start, {*_CLAUSES, "_COMMA"} if is_listing else {*_CLAUSES}
    match = _TOKEN_AT.match(text, offset)
    found = match[0] if match and text[offset] not in "\r\n;" else ""
    span = piece.span(offset, offset + max(len(found), 1))
    words = _expected_words(expected)
    may_end = "_SEP" in expected or "$END" in expected
    at_start = "PRUNE" in expected

    if found and found != found.lower() and found.lower() in words:
        return Diagnostic("TD011", f"keywords are lowercase: `{found}`", span, help=f"write `{found.lower()}`")
    if at_start and found and (found[0].isalpha() or found[0] == "_"):
        return _unknown_statement(found, span)
    if found == "," and may_end:
        rest = _TOKEN_AT.match(text, piece.skip_blanks(offset + 1))
        if rest and rest[0] in vocabulary.STATEMENTS:
            return Diagnostic(
                "TD013",
                "statements are separated by `;` or a newline, not by `,`",
                span,
                help=f"write `; {rest[0]}` or start a new line",
            )
    if may_end and found in vocabulary.STATEMENTS:
        return Diagnostic(
            "TD012",
            f"missing `;` between two statements, before `{found}`",
            span,
            help=f"write `; {found}` or start a new line",
        )
    if expected == {"EQUAL"} and (word := re.search(r"(\w+)\s+$", text[:offset])) and word[1] in vocabulary.STATEMENTS:
        return Diagnostic(
            "TD012",
            f"missing `;` between two statements, before `{word[1]}`",
            piece.span(*word.span(1)),
            help=f"write `; {word[1]}` or start a new line",
        )
    if isinstance(error, UnexpectedCharacters) and found and not (found[0].isascii() and found[0].isprintable()):
        return _bad_character(text[offset], piece, offset)
    return _unexpected(piece, offset, found, expected, words)


def _unknown_statement(found: str, span: Span) -> Diagnostic:
    other = _FOREIGN_KEYWORDS.get(found.lower())
    if found == "for" and re.match(r"\s+\w+\s+in\b", span.source.text[span.end : span.end + 80]):
        other = "sweep NAME in [10%, 20%]"
    if found in vocabulary.STATEMENTS:
        label = "remove the `=`" if span.source.text[span.end :].lstrip().startswith("=") else ""
        return Diagnostic("TD010", f"`{found}` does not begin a statement here", span, label, help=example([found]))
    if other is None and found.lower() in registries.CRITERIA.builtin:
        other = f"prune weights 20% by {found.lower()}"
    suggestion = did_you_mean(found, vocabulary.STATEMENTS) or ""
    return Diagnostic(
        "TD010",
        f"unknown statement `{found}`",
        span,
        label=f"use `{other}`" if other else suggestion,
        help=None if other or suggestion else f"statements start with {join_or(vocabulary.STATEMENTS, 20)}",
    )


def _bad_character(character: str, piece: StatementText, offset: int) -> Diagnostic:
    shown = f"`{character}`" if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
    description = _LOOKALIKES.get(character, "")
    return Diagnostic(
        "TD004",
        f"invalid character {shown}",
        piece.span(offset, offset + 1),
        label=f"this is {description}" if description else "",
        help=None if "write" in description else "remove it or retype it",
    )


def _unexpected(piece: StatementText, offset: int, found: str, expected: set[str], words: set[str]) -> Diagnostic:
    span = piece.span(offset, offset + max(len(found), 1))
    before = piece.text[piece.statement_range(offset)[0] : offset].split()
    after = f" after `{before[-1]}`" if before else ""
    actual = f"found `{found}`" if found else "the statement ends here"
    start, end = piece.statement_range(offset)
    phrase = correct_phrase(piece.text[start:end], offset - start)
    suggestion = did_you_mean(found, words) if found and phrase is None else None
    correction = phrase or suggest_correction(piece, offset, found, before, expected)
    return Diagnostic(
        "TD001",
        f"expected {_describe_expected(expected)}{after}; {actual}",
        span,
        label=suggestion or "",
        help=correction or (None if suggestion else example(before)),
    )


def _describe_expected(expected: set[str]) -> str:
    if "PRUNE" in expected:
        return "a statement" + (" or `}`" if "RBRACE" in expected else "")
    if {"PERCENT", "TO", "MATCHING"} <= expected:
        scope = "a scope (global, local, uniform, erk or balanced) or " if "SCOPE" in expected else ""
        return f"{scope}an amount (`20%`, `3`, `to 95%` or `matching ARM`)"
    if {"STRING", "LSQB", "PERCENT"} <= expected:
        return "a value (a number, a percentage, a length, a name, a list or `$name`)"
    labels = {_TERMINAL_LABELS.get(name, f"`{name.lower()}`") for name in expected}
    end = _TERMINAL_LABELS["_SEP"]
    ordered = sorted(labels - {end}, key=lambda label: (label.startswith("`"), label))
    return join_or([*ordered, end] if end in labels else ordered, 9)
