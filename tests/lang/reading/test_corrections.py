"""Common mistakes, and the corrections that the messages suggest."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source


def first_error(text: str) -> str:
    """The first error, its label and its help."""
    diagnostics = check(load_source(Source("x.plan", text)), network=False).diagnostics
    first = next(d for d in diagnostics if d.severity == "error")
    return f"{first.message} {first.label} {first.help}"


@pytest.mark.parametrize(
    ("written", "correction"),
    [
        ("model vgg16 cifar10", "`model vgg16 on cifar10`"),
        ("data digits size=32px", "`size=32`"),
        ("train 160 lr=0.1", "`160ep` or `160it`"),
        ("train 160ep, lr=0.1", "separate options by spaces"),
        ("train 160ep cosine", "`schedule=cosine`"),
        ("train 160ep lr=.1", "`0.1`"),
        ("train 160ep learning_rate=0.1\nprune layers 1", "did you mean `lr`?"),
        ("train 160ep weight_decay=1e-4\nprune layers 1", "did you mean `decay`?"),
        ("train 160ep milestones=[80, 120]\nprune filters 20%", "`80ep` or `80it`"),
        ("prune 20% filters", "`prune filters 20%`"),
        ("prune channels 20%", "did you mean `filters`?"),
        ("prune weights by l1 20%", "`20% by …`"),
        ("prune filters 20% x 3 magnitude", "`by magnitude`"),
        ("prune filters share x 3", "`$share`"),
        ("prune filters 20% x n", "`x $name`"),
        ("prune filters 20% for 8 rounds", "`x 8`"),
        ("prune filters to 50", "`to 50%`"),
        ("prune filters 20%, 30%", "`[20%, …]`"),
        ("prune weights 20%; rewind weights init", "`rewind weights to init`"),
        ("prune weights 20%; rewind lr from 5ep", "`rewind lr to 5ep`"),
        ("prune weights 20%; rewind to 5%", "`rewind weights to 5%`"),
        ("let rate 0.1", "`let rate = 0.1`"),
        ("let x = 2 * 3", "no arithmetic"),
        ("seeds [1, 2", "`]`"),
        ("for p in [1, 2] { prune layers $p }", "`sweep NAME in"),
        ("for 3 { prune layers 1 }", "`cycle 8"),
        ("arm 2nd { prune weights 20% }", "must start with a letter"),
        ("arm my arm { prune weights 20% }", "`arm my-arm {`"),
        ("prune weights 20%\ncompare baseline", "did you mean `dense`?"),
        ("prune weights 20%\nreport top1", "did you mean `accuracy`?"),
    ],
)
def test_a_common_mistake_gets_its_correction(written: str, correction: str) -> None:
    assert correction in first_error(written + "\n")


def test_a_recipe_error_does_not_hide_network_errors() -> None:
    text = "model small-cnn on digits\ntrain 8ep\nprune weights 20% except nolayer; rewind lr to 9ep\n"
    assert {"TD302", "TD402"} <= {d.code for d in check(load_source(Source("x.plan", text))).diagnostics}
