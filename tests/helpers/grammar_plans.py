"""Plans derived from the grammar rules, with random spaces, line breaks and comments."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from lark.grammar import NonTerminal, Symbol

from tickdsl import grammar
from tickdsl.lang import vocabulary

SAMPLES: dict[str, list[str]] = {
    **{terminal: list(words) for terminal, words in vocabulary.CLOSED_WORDS.items()},
    "CMP": ["<", "<=", ">", ">="],
    "_TIMES": ["x", "x ", "×", "× \t"],
    "SPAN": ["160ep", "2.5 epochs", "500it", "3  steps", "1 epoch", "12 iterations"],
    "PERCENT": ["20%", "98.5 %", "0.10%"],
    "NUMBER": ["0.1", "1e-4", "2.50"],
    "NEGATIVE": ["-120", "-0.5", "-1e-4", "-2.50"],
    "INT": ["3", "007", "12"],
    "NAME": ["a", "lr-rewind", "layer1.0.conv2", "train", "x", "of", "a_long_name_that_fills_a_line_quickly_for_once"],
    "PATTERN": ["layer1.**", "*", "conv*", "in.*.conv-*2", "**.fc"],
    "STRING": ['"features.*"', '"a # b; {c}, \\" d"', '""'],
    "_DOTS": [".."],
    "LBRACE": ["{"],
    "RBRACE": ["}"],
    "LSQB": ["["],
    "RSQB": ["]"],
    "EQUAL": ["="],
    "DOLLAR": ["$"],
}  # fmt: skip
COMMENTS = ["#", "# why", "#odd: {;},", "# ok TD505", "#  ok TD507 TD303  ", "# 多い\u2028 # twice", "#\t[a,"]
_PLAIN = (" ", "  ", "\t", " \f ")
_PUNCTUATION = set("=[]{}$")


@functools.cache
def _rules() -> dict[str, list[list[Symbol]]]:
    rules: dict[str, list[list[Symbol]]] = {}
    for rule in grammar.plan_parser().rules:
        rules.setdefault(rule.origin.name, []).append(rule.expansion)
    return rules


@functools.cache
def _min_depths() -> dict[str, float]:
    """The minimum derivation depth of each rule."""
    depths: dict[str, float] = dict.fromkeys(_rules(), math.inf)
    changed = True
    while changed:
        changed = False
        for name, expansions in _rules().items():
            best = 1 + min(max((_min_depth(s, depths) for s in e), default=0) for e in expansions)
            changed |= best < depths[name]
            depths[name] = min(best, depths[name])
    return depths


def _min_depth(symbol: Symbol, depths: dict[str, float]) -> float:
    return depths[symbol.name] if isinstance(symbol, NonTerminal) else 0


Pick = Callable[[Sequence[Any]], Any]


@st.composite
def plans(draw: Any, size: int = 60) -> str:
    """A text derived from the grammar; most of them parse, unless keywords and names collide."""
    return derive_text(lambda choices: draw(st.sampled_from(choices)), size)


def derive_text(pick: Pick, size: int) -> str:
    """The text derived by letting `pick` decide every choice."""
    terminals: list[str] = []

    def derive(symbol: Symbol, depth: int) -> None:
        if not isinstance(symbol, NonTerminal):
            terminals.append(symbol.name)
            return
        depths = _min_depths()
        expansions = _rules()[symbol.name]
        if depth <= 0 or len(terminals) > size:
            lowest = min(max((_min_depth(s, depths) for s in e), default=0) for e in expansions)
            expansions = [e for e in expansions if max((_min_depth(s, depths) for s in e), default=0) == lowest]
        for part in pick(expansions):
            derive(part, depth - 1)

    for _ in range(pick(range(1, 7))):
        derive(NonTerminal("start"), 14)
        terminals.append("_SEP")
    return "".join(_spell(pick, terminals))


def _spell(pick: Pick, terminals: list[str]) -> list[str]:
    parts: list[str] = []
    for name in terminals:
        if name == "_SEP":
            parts.append(_separator(pick))
        elif name == "_COMMA":
            parts.append("," + _continuation(pick))
        else:
            text = pick(SAMPLES[name]) if name in SAMPLES else name.lower()
            tight = {text, (parts[-1][-1:] if parts else "")} & _PUNCTUATION
            parts.append((pick(["", *_PLAIN]) if tight else pick(_PLAIN)) + text)
    return parts


def _lines(pick: Pick) -> str:
    """The end of a line with an optional comment, followed by blank and comment lines."""
    lines = [pick(["", " ", "\t"]) + pick(["", "", "", *COMMENTS]) for _ in range(pick(range(1, 5)))]
    return "\n".join(lines) + "\n"


def _separator(pick: Pick) -> str:
    start = pick([";", " ; ", "", ";\n"])
    return start if start.strip(" ") == ";" else start.rstrip("\n") + _lines(pick)


def _continuation(pick: Pick) -> str:
    start = pick(["", "  ", "\n"])
    return _lines(pick) if start == "\n" else start
