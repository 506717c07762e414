"""The grammar of plans as data, and the parser built from it."""

from __future__ import annotations

import functools
import hashlib
import os
from importlib import resources
from pathlib import Path

import lark
from lark import Lark
from lark.lexer import PatternRE, PatternStr, TerminalDef

from tickdsl import __version__

#: A keyword ends where a name could not go on: `prune-x` and `prune.x` are names. So is the key in `until=2ep`.
WORD_END = r"(?![A-Za-z0-9_]|[-.][A-Za-z0-9_]|[ \t]*=(?!=))"
_CLOSED_WORDS = ("UNIT", "SCOPE", "BASE", "WHAT", "SPLIT_BY")


def grammar_text() -> str:
    """The grammar, as written."""
    return resources.files(__name__).joinpath("plan.lark").read_text("utf-8")


def _bound_keywords(terminal: TerminalDef) -> None:
    """Give every alphabetic keyword a word boundary and precedence over NAME."""
    pattern = terminal.pattern
    if isinstance(pattern, PatternStr) and pattern.value.isalpha():
        terminal.pattern = PatternRE(pattern.value + WORD_END, pattern.flags)
        terminal.priority = 2
    elif terminal.name in _CLOSED_WORDS:
        terminal.pattern = PatternRE(f"(?:{pattern.to_regexp()}){WORD_END}", pattern.flags)
        terminal.priority = 2


def build_parser(*, strict: bool = False, cache: str | bool = False) -> Lark:
    """Build the parser; `strict` also proves the lexer free of collisions (needs interegular)."""
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="contextual",
        propagate_positions=True,
        maybe_placeholders=False,
        edit_terminals=_bound_keywords,
        strict=strict,
        cache=cache,
    )


@functools.lru_cache(maxsize=1)
def plan_parser() -> Lark:
    """The parser, from a table kept in the user's own cache folder where there is one.

    Never in a shared temporary folder: the table is a pickle, and somebody else could have written it.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tickdsl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return build_parser(cache=str(folder / f"grammar-{_fingerprint()}.lark"))
    except (OSError, RuntimeError, EOFError, ValueError):
        return build_parser()


def _fingerprint() -> str:
    """Names the table by all that goes into it; Lark's own check does not cover `edit_terminals`."""
    source = f"{__version__}\n{lark.__version__}\n{grammar_text()}\n{Path(__file__).read_text('utf-8')}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]
