"""Plans as people break them: tokens lost, doubled, swapped; bytes at random."""

from __future__ import annotations

import random
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOKEN = re.compile(r"\"[^\"\n]*\"|[\w.%-]+|\s+|.", re.DOTALL)
#: What random bytes are drawn from: any byte, and those that mean something more often.
_SYNTAX_BYTES = b"{}[];,=$%#\"'\n\r\t .x<>"


def plans() -> list[str]:
    """Every valid plan of the repository: shipped, in the documentation, the cures of all findings."""
    from tickdsl.lang.findings import explain
    from tickdsl.lang.findings.diagnostic_codes import CODES

    shipped = [path.read_text("utf-8") for path in sorted(ROOT.glob("plans/**/*.plan"))]
    shown = [
        block
        for path in sorted(ROOT.glob("docs/*.md"))
        if path.name != "codes.md"  # its examples are those of the pages
        for block in re.findall(r"^```plan\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    ]
    fixed_plans = [page.after.plan for code in CODES if (page := explain.load_page(code)) is not None]
    return list(dict.fromkeys([*shipped, *shown, *fixed_plans]))


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
    one, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
    tokens[one], tokens[other] = tokens[other], tokens[one]
    return "".join(tokens)


def _bytes(text: str, rng: random.Random) -> str:
    raw = bytearray(text, "utf-8")
    for _ in range(rng.choice((1, 1, 2, 5))):
        byte = rng.choice(_SYNTAX_BYTES) if rng.random() < 0.6 else rng.randrange(256)
        index = rng.randrange(len(raw) + 1)
        raw[index : index + rng.randrange(2)] = bytes([byte])
    return raw.decode("utf-8", "replace")
