"""Broken plans: tokens deleted, duplicated or swapped, and random bytes."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOKEN = re.compile(r"\"[^\"\n]*\"|[\w.%-]+|\s+|.", re.DOTALL)
#: Bytes of the plan syntax, which are drawn more often than others.
_SYNTAX_BYTES = b"{}[];,=$%#\"'\n\r\t .x<>"


def plans() -> list[str]:
    """Every valid plan of the repository: shipped plans, examples in the docs, fixed plans of all diagnostics."""
    from tickdsl.lang.findings import explain
    from tickdsl.lang.findings.diagnostic_codes import CODES

    shipped = [path.read_text("utf-8") for path in sorted(ROOT.glob("plans/**/*.plan"))]
    documented = [
        block
        for path in sorted(ROOT.glob("docs/**/*.md"))
        if path.name != "codes.md"  # generated from the pages below
        for block in re.findall(r"^```plan\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    pages = [page for code in CODES if (page := explain.load_page(code)) is not None]
    fixed_plans = [page.after.plan for page in pages if page.after is not None]
    return list(dict.fromkeys([*shipped, *documented, *fixed_plans]))


def mutate(text: str, rng: random.Random) -> str:
    """The text with one to three mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice((_delete, _duplicate, _swap, _bytes))(text, rng)
    return text


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text) or [""]


def _delete(text: str, rng: random.Random) -> str:
    tokens = _tokens(text)
    del tokens[rng.randrange(len(tokens))]
    return "".join(tokens)


def _duplicate(text: str, rng: random.Random) -> str:
    tokens = _tokens(text)
    index = rng.randrange(len(tokens))
    return "".join([*tokens[:index], tokens[index], *tokens[index:]])


def _swap(text: str, rng: random.Random) -> str:
    tokens = _tokens(text)
    first, second = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    tokens[first], tokens[second] = tokens[second], tokens[first]
    return "".join(tokens)


def _bytes(text: str, rng: random.Random) -> str:
    raw = bytearray(text, "utf-8")
    for _ in range(rng.choice((1, 1, 2, 5))):
        byte = rng.choice(_SYNTAX_BYTES) if rng.random() < 0.6 else rng.randrange(256)
        index = rng.randrange(len(raw) + 1)
        raw[index : index + rng.randrange(2)] = bytes([byte])
    return raw.decode("utf-8", "replace")
