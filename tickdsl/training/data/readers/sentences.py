"""Sentences drawn from a small grammar, each with the one who acts as its label, as words.

Each sentence names two animals or more; who acts follows from the voice and from where the words are, so that the words
alone do not tell: "the cat chased the dog", "the cat was chased by the dog", "the cat near the fox that the dog chased
slept".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tickdsl.training.data.readers import tokens
from tickdsl.training.data.readers.raw_dataset import InputArray, LabelArray, RawDataset

#: The version of the sentences and of how they are drawn; change it whenever they change.
VERSION = "sentences 1"
#: The number of words of the longest sentence, and so the length of the data.
LENGTH = 12
_SEED = 20220712
ACTORS = ("cat", "dog", "fox", "owl")
_VERBS = ("chased", "saw", "helped", "followed", "found", "heard")
_ADJECTIVES = ("old", "small", "red", "quiet")
_PLACES = ("near", "behind", "beside")
_ENDINGS = ("slept", "waited", "ran")
#: All words by number; the first is padding.
WORDS = ("-", "the", "was", "by", "that", *ACTORS, *_VERBS, *_ADJECTIVES, *_PLACES, *_ENDINGS)
_NUMBERS = {word: number for number, word in enumerate(WORDS)}


def read(*, train: int, test: int) -> RawDataset:
    """Draw `train` and `test` sentences; equal arguments give equal ones on every machine."""
    rng = np.random.Generator(np.random.PCG64(_SEED))

    def draw(count: int) -> tuple[InputArray, LabelArray]:
        labels = np.arange(count, dtype=np.int64) % len(ACTORS)
        texts = [np.array([_NUMBERS[word] for word in sentence(rng, int(label))], dtype=np.int64) for label in labels]
        return tokens.padded(texts, LENGTH, len(WORDS)), labels

    return RawDataset(*draw(train), *draw(test), ACTORS, vocabulary=len(WORDS))


def sentence(rng: np.random.Generator, actor: int) -> list[str]:
    """A sentence, as words, in which the animal number `actor` acts."""
    others = [number for number in range(len(ACTORS)) if number != actor]
    patient, bystander = (ACTORS[others[place]] for place in rng.permutation(len(others))[:2])
    return list(_words(rng, ACTORS[actor], patient, bystander))


def _words(rng: np.random.Generator, actor: str, patient: str, bystander: str) -> Iterator[str]:
    def choice(words: tuple[str, ...]) -> str:
        return words[int(rng.random() * len(words))]

    def noun(animal: str, *, place: bool = False) -> Iterator[str]:
        yield "the"
        if rng.random() < 0.3:
            yield choice(_ADJECTIVES)
        yield animal
        if place:
            yield from (choice(_PLACES), "the", bystander)

    form, is_placed, placed_first = rng.random(), rng.random() < 0.5, rng.random() < 0.5
    first, second = is_placed and placed_first, is_placed and not placed_first
    verb = choice(_VERBS)
    if form < 0.4:
        yield from (*noun(actor, place=first), verb, *noun(patient, place=second))
    elif form < 0.8:
        yield from (*noun(patient, place=first), "was", verb, "by", *noun(actor, place=second))
    elif form < 0.9:
        yield from (*noun(patient, place=first), "that", *noun(actor, place=second), verb, choice(_ENDINGS))
    else:
        yield from (*noun(actor, place=first), "that", verb, *noun(patient, place=second), choice(_ENDINGS))
