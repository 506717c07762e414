"""Counts and their nouns agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickdsl.plurals import agreeing, plural

NOUNS = ("step", "image", "class", "epoch", "entry", "batch", "training run", "key", "axis of a copy")


@given(st.integers(0, 10**9), st.sampled_from(NOUNS))
def test_the_noun_is_singular_for_one_alone(count: int, noun: str) -> None:
    number, _, word = plural(count, noun).partition(" ")
    assert int(number.replace(",", "")) == count
    assert (word == noun) == (count == 1)
    assert word == agreeing(count, noun)


@given(st.integers(0, 10**9), st.sampled_from(NOUNS))
def test_only_the_last_word_changes(count: int, noun: str) -> None:
    assert agreeing(count, noun).split(" ")[:-1] == noun.split(" ")[:-1]


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "step", "1 step"), (2, "step", "2 steps"), (0, "arm", "0 arms"), (3, "class", "3 classes"),
        (2, "batch", "2 batches"), (2, "entry", "2 entries"), (2, "key", "2 keys"), (1200, "epoch", "1,200 epochs"),
        (2, "training run", "2 training runs"),
    ],
)  # fmt: skip
def test_examples(count: int, noun: str, text: str) -> None:
    assert plural(count, noun) == text


@pytest.mark.parametrize(
    ("verb", "many"), [("is", "are"), ("was", "were"), ("has", "have"), ("this", "these"), ("it", "they")]
)
def test_verbs_agree(verb: str, many: str) -> None:
    assert (agreeing(1, verb), agreeing(2, verb), agreeing(0, verb)) == (verb, many, many)
