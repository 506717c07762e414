"""Plans as people break them: tokens lost, doubled, swapped; bytes at random."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOKEN = re.compile(r"\"[^\"\n]*\"|[\w.%-]+|\s+|.", re.DOTALL)
#: What random bytes are drawn from: any byte, and those that mean something more often.
_TELLING = b"{}[];,=$%#\"'\n\r\t .x<>"


def plans() -> list[str]:
    """Every valid plan of the repository: shipped, in the documentation, the cures of all findings."""
    from tickdsl.lang.findings import explain
    from tickdsl.lang.findings.diagnostics import CODES

    shipped = [path.read_text("utf-8") for path in sorted(ROOT.glob("plans/**/*.plan"))]
    shown = [
        block
        for path in sorted(ROOT.glob("docs/*.md"))
        if path.name != "codes.md"  # its examples are those of the pages
        for block in re.findall(r"^```plan\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    cures = [page.after.plan for code in CODES if (page := explain.page(code)) is not None]
    return list(dict.fromkeys([*shipped, *shown, *cures]))


def mutate(text: str, dice: random.Random) -> str:
    """The text with one to three mutations."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        text = dice.choice((_delete, _duplicate, _swap, _bytes))(text, dice)
    return text


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text) or [""]


def _delete(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    del tokens[dice.randrange(len(tokens))]
    return "".join(tokens)


def _duplicate(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    place = dice.randrange(len(tokens))
    return "".join([*tokens[:place], tokens[place], *tokens[place:]])


def _swap(text: str, dice: random.Random) -> str:
    tokens = _tokens(text)
    one, other = dice.randrange(len(tokens)), dice.randrange(len(tokens))
    tokens[one], tokens[other] = tokens[other], tokens[one]
    return "".join(tokens)


def _bytes(text: str, dice: random.Random) -> str:
    raw = bytearray(text, "utf-8")
    for _ in range(dice.choice((1, 1, 2, 5))):
        byte = dice.choice(_TELLING) if dice.random() < 0.6 else dice.randrange(256)
        place = dice.randrange(len(raw) + 1)
        raw[place : place + dice.randrange(2)] = bytes([byte])
    return raw.decode("utf-8", "replace")
