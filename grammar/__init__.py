"""The grammar of the plan language, and the parser built from it."""

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

#: The end of a keyword. `prune-x` and `prune.x` are names, and so is the key in `until=2ep`.
WORD_END = r"(?![A-Za-z0-9_]|[-.][A-Za-z0-9_]|[ \t]*=(?!=))"
_CLOSED_WORDS = ("UNIT", "SCOPE", "BASE", "COST", "WHAT", "SPLIT_BY")


def grammar_text() -> str:
    """The text of plan.lark."""
    return resources.files(__name__).joinpath("plan.lark").read_text("utf-8")


def _bound_keywords(terminal: TerminalDef) -> None:
    """Give an alphabetic keyword a word boundary and precedence over NAME."""
    pattern = terminal.pattern
    if isinstance(pattern, PatternStr) and pattern.value.isalpha():
        terminal.pattern = PatternRE(pattern.value + WORD_END, pattern.flags)
        terminal.priority = 2
    elif terminal.name in _CLOSED_WORDS:
        terminal.pattern = PatternRE(f"(?:{pattern.to_regexp()}){WORD_END}", pattern.flags)
        terminal.priority = 2


def build_parser(*, strict: bool = False, cache: str | bool = False) -> Lark:
    """Build the parser. `strict` also checks that no two terminals can match the same text (needs interegular)."""
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
    """The parser. Its parse table is cached in the user's cache folder if that is writable.

    The table is a pickle, so it is never read from a shared temporary folder, where other users could write it.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tickdsl"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return build_parser(cache=str(folder / f"grammar-{_fingerprint()}.lark"))
    except (OSError, RuntimeError, EOFError, ValueError):
        return build_parser()


def _fingerprint() -> str:
    """A hash of everything the parse table depends on. Lark's own cache key does not cover `edit_terminals`."""
    source = f"{__version__}\n{lark.__version__}\n{grammar_text()}\n{Path(__file__).read_text('utf-8')}"
    return hashlib.sha256(source.encode()).hexdigest()[:16]
