"""Numbers of images that do not fit the data, and statements that say the same twice."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source


def codes(text: str) -> set[str]:
    report = check(load_source(Source("test.plan", f"seeds 3\n{text}")), network=False)
    return {d.code for d in report.diagnostics if d.severity != "note"}


TAIL = "prune weights 30% except fc; rewind weights"
SPLIT_TAIL = "prune weights 30% except fc; overlap; rewind weights"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"data digits samples=1437\n{TAIL}", set()),
        (f"data digits samples=1438\n{TAIL}", {"TD122"}),
        (f"data digits samples=10\n{TAIL}", set()),
        (f"data digits samples=9\n{TAIL}", {"TD122"}),
        (f"data synthetic train=50 samples=51\n{TAIL}", {"TD122"}),
        (f"data synthetic train=50 samples=50\n{TAIL}", set()),
        (f"{TAIL}\ntransfer to digits size=8 samples=2000", {"TD122"}),
        (f"data digits channels=2\n{TAIL}", {"TD105"}),
        (f"train 3ep batch=1437\n{TAIL}", set()),
        (f"train 3ep batch=1438\n{TAIL}", {"TD123"}),
        (f"data digits samples=100\ntrain 3ep\n{TAIL}", set()),  # nobody chose 128 images
        ("prune weights 30%; retrain linear 3ep batch=2000", {"TD123"}),
        (f"split samples 71\n{SPLIT_TAIL}", set()),
        (f"split samples 72\n{SPLIT_TAIL}", {"TD503"}),
        (f"split samples 4\ntrain 3ep batch=400\n{SPLIT_TAIL}", {"TD123"}),
    ],
)
def test_numbers_of_images(text: str, expected: set[str]) -> None:
    assert codes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arm a { prune weights 30%; rewind lr }\narm b { prune weights 30% x 1; rewind lr }", {"TD522"}),
        ("arm a { prune weights 30%; rewind lr }\narm b { prune weights 30%; rewind lr to 3ep }", {"TD509"}),
        ("sweep share in [30%, 40%, 30%]\nprune weights $share; rewind lr", {"TD121"}),
        ("sweep by in [l1, l2]\nprune weights 30% by $by; rewind lr", {"TD522"}),  # both are the magnitude
        ("train 6ep\nsweep to in [3ep, 50%]\nprune weights 30%; rewind weights to $to", {"TD522"}),
        ("train 6ep\nsweep to in [2ep, 24it]\nprune weights 30%; rewind lr to $to", {"TD522"}),  # of 12 steps
        ("train 6ep\nsweep to in [3ep, 51%]\nprune weights 30%; rewind weights to $to", set()),
        ("train 6ep\nsweep to in [init, 1it]\nprune weights 30%; rewind weights to $to", set()),
        ("let share = 30%\nsweep other in [$share, 30%]\nprune weights $other; rewind lr", {"TD121"}),
        ("prune weights 30%; retrain scratch\ncompare random-init", {"TD515"}),
        ("prune weights 30%; retrain scratch 3ep\ncompare random-init", set()),
        (
            "arm a { prune weights 30%; retrain scratch }\narm b { prune weights 30%; rewind lr }\n"
            "compare all, random-init",
            set(),
        ),
    ],
)
def test_the_same_twice(text: str, expected: set[str]) -> None:
    assert codes(text) == expected


def test_arms_that_match_different_arms_differ() -> None:
    swept = "sweep share in [30%, 40%]\narm a { prune weights $share; rewind lr }\n"
    assert "TD522" not in codes(f"{swept}arm b {{ prune weights matching a; rewind lr }}")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("prune weights 30%; rewind weights to 3ep; prune weights 20% at 2ep; rewind lr", True),
        ("prune weights 30%; rewind weights to 3ep; prune weights 20% at 4ep; rewind lr", False),
        ("prune weights 30%; rewind lr to 50%; prune weights 20% at 5ep; rewind lr", True),  # of 12 epochs
        ("prune weights 30%; rewind lr to 50%; prune weights 20% at 7ep; rewind lr", False),
        ("prune weights 30% x 2 at 2ep; rewind weights to 4ep", True),
        ("prune weights 30% x 1 at 2ep; rewind weights to 4ep", False),
        ("cycle 2 { prune weights 30% at 2ep; rewind weights to 4ep }", True),
        ("cycle 2 { prune weights 30% at 4ep; rewind weights to 2ep }", False),
    ],
)
def test_a_prune_before_the_training_that_it_interrupts(text: str, found: bool) -> None:
    assert ("TD302" in codes(text)) == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model gpt\ndata corpus samples=20 validation=10%", set()),  # 256 tokens are no classes
        ("model small-cnn\ndata shapes-places samples=1", set()),
        ("model gpt\ndata corpus samples=2001", {"TD122"}),
        ("model bert\ndata sentences samples=3", {"TD122"}),
        ("model unet\ndata shapes\nsplit samples 300", set()),
    ],
)
def test_only_classes_need_samples_of_their_own(text: str, expected: set[str]) -> None:
    tail = "prune weights 30%; overlap; rewind weights" if "split" in text else "prune weights 30%; rewind lr"
    assert codes(f"{text}\ntrain 3ep batch=1\n{tail}") == expected


def test_parts_of_the_classes_of_other_tasks_have_one_finding() -> None:
    found = codes(f"model unet\ndata shapes\nsplit classes 3\n{SPLIT_TAIL}")
    assert "TD475" in found and "TD503" not in found


def test_samples_of_texts_are_not_called_images() -> None:
    report = check(
        load_source(Source("test.plan", "model gpt\ndata corpus samples=2001\nprune weights 30%")), network=False
    )
    (message,) = (d.message for d in report.diagnostics if d.code == "TD122")
    assert message == "`samples=2001`: corpus has 2,000 training samples"


@pytest.mark.parametrize(("head", "noun"), [("bert\ndata sentences train=90", "sample"), ("small-cnn", "image")])
def test_parts_of_too_few_samples_are_called_by_their_name(head: str, noun: str) -> None:
    text = f"model {head}\ntrain 2ep\nsplit samples 2000\nprune weights 30%; overlap; rewind weights"
    report = check(load_source(Source("test.plan", text)), network=False)
    (found,) = (d for d in report.diagnostics if d.code == "TD503")
    assert found.message.endswith(f"parts of at least 2 {noun}s per class")
    assert ("image" in f"{found.message}{found.help}") == (noun == "image")
