"""Syntax highlighting of plans, if the Pygments lexer is installed."""

from __future__ import annotations

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Literal, Name, Number, Operator, String, Token, _TokenType
from pygments.util import ClassNotFound
from rich.text import Text

from .glyphs import Palette


def highlight_plan(text: str, palette: Palette) -> list[Text]:
    """The highlighted lines of `text`; plain if the lexer is not installed."""
    plain = text.expandtabs(4)
    try:
        lexer = get_lexer_by_name("tickdsl", stripnl=False, ensurenl=False)
    except ClassNotFound:
        return [Text(line, end="", no_wrap=True) for line in plain.splitlines()]
    whole = Text(end="", no_wrap=True)
    for token, piece in lexer.get_tokens(plain):
        whole.append(piece, _style(token, palette) or None)
    return list(whole.split("\n", allow_blank=True))


def _style(token: _TokenType, palette: Palette) -> str:
    for kind, style in (
        (Comment, f"italic {palette.dim}"),
        (Keyword, f"bold {palette.accent}"),
        (Number, palette.arms[1]),
        (String, palette.good),
        (Literal, palette.arms[1]),
        (Operator, palette.dim),
        (Name.Function, "bold"),
        (Name.Class, "bold"),
        (Name.Builtin, palette.arms[3]),
        (Name.Attribute, palette.arms[3]),
        (Token.Error, palette.bad),
    ):
        if token in kind:
            return style
    return ""
