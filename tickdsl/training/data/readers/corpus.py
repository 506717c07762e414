"""A corpus drawn from a small grammar of English, as bytes: to learn its words, its order, and what depends on what.

A verb agrees with its noun, over a phrase or a relative clause in between whose noun may have the other number;
relative clauses nest; a sentence in quotation marks or brackets ends with the mark that it began with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tickdsl.training.data.readers import tokens
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: The version of the grammar and of how it is drawn; change it whenever the corpus changes.
VERSION = "corpus 1"
_SEED = 20220711
_NOUNS = ("cat", "dog", "fox", "bird", "girl", "boy", "king", "judge", "sailor", "pilot")
_ADJECTIVES = ("old", "small", "red", "quiet", "happy", "clever")
_INTRANSITIVE = ("sleep", "sing", "run", "wait", "laugh")
_TRANSITIVE = ("see", "like", "follow", "help", "know")
_PREPOSITIONS = ("near", "behind", "with", "beside")
#: The share of noun phrases with a relative clause, a phrase, an adjective; of sentences in quotation marks.
_RELATIVE, _PHRASE, _ADJECTIVE, _QUOTED = 0.2, 0.2, 0.3, 0.15
_MAX_DEPTH = 2


def read(*, length: int, train: int, test: int) -> RawDataset:
    """Draw `train` and `test` sequences of `length` bytes; equal arguments give equal ones on every machine."""
    rng = np.random.Generator(np.random.PCG64(_SEED))
    inputs, targets = tokens.sequences(_Grammar(rng).text((train + test) * length + 1), length, tokens.BYTES)
    return RawDataset(
        inputs[:train], targets[:train], inputs[train:], targets[train:],
        tokens.ByteTokenizer().names, task="language", vocabulary=tokens.BYTES,
    )  # fmt: skip


class _Grammar:
    """Draws sentences."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def text(self, size: int) -> NDArray[Any]:
        """Text of `size` bytes, uint8 [size]: a sentence per line."""
        lines: list[str] = []
        missing = size
        while missing > 0:
            lines.append(f"{self._sentence()}.\n")
            missing -= len(lines[-1])
        return np.frombuffer("".join(lines).encode(), dtype=np.uint8)[:size]

    def _sentence(self) -> str:
        plural = self._is(0.5)
        subject = self._noun_phrase(plural, 0)
        clause = f"{subject} {self._verb_phrase(plural)}"
        if self._is(_QUOTED):
            speaker = self._noun(plural := self._is(0.5))
            mark = ('"', '"') if self._is(0.5) else ("(", ")")
            return f"the {speaker} {_verb('say', plural)} {mark[0]}{clause}{mark[1]}"
        return clause

    def _noun_phrase(self, plural: bool, depth: int) -> str:
        """A noun with its article, and what depends on it. depth: of the clauses that it is in."""
        adjective = f"{self._choice(_ADJECTIVES)} " if self._is(_ADJECTIVE) else ""
        phrase = f"{'the' if plural or self._is(0.5) else 'one'} {adjective}{self._noun(plural)}"
        if depth < _MAX_DEPTH and self._is(_RELATIVE):
            inner = self._is(0.5)
            subject = self._noun_phrase(inner, depth + 1)
            phrase += f" that {subject} {_verb(self._choice(_TRANSITIVE), inner)}"
        elif depth < _MAX_DEPTH and self._is(_PHRASE):
            phrase += f" {self._choice(_PREPOSITIONS)} {self._noun_phrase(self._is(0.5), depth + 1)}"
        return phrase

    def _verb_phrase(self, plural: bool) -> str:
        if self._is(0.5):
            return _verb(self._choice(_INTRANSITIVE), plural)
        return f"{_verb(self._choice(_TRANSITIVE), plural)} {self._noun_phrase(self._is(0.5), 1)}"

    def _noun(self, plural: bool) -> str:
        noun = self._choice(_NOUNS)
        if not plural:
            return noun
        return noun + ("es" if noun.endswith("x") else "s")

    def _choice(self, words: tuple[str, ...]) -> str:
        return words[int(self._rng.random() * len(words))]

    def _is(self, share: float) -> bool:
        return bool(self._rng.random() < share)


def _verb(verb: str, plural: bool) -> str:
    return verb if plural else f"{verb}s"
