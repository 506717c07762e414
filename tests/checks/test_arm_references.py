"""Arms that match or distil from others that they cannot follow."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source


def codes(text: str) -> set[str]:
    return {d.code for d in check(load_source(Source("test.plan", text))).diagnostics if d.severity != "note"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model conv2; prune weights 30% x 3; rewind lr", "prune weights matching first; rewind lr"),
        ("model small-cnn width=2; prune weights 30% x 3; rewind lr", "prune weights matching first; rewind lr"),
        ("data digits channels=3; prune weights 30% x 3; rewind lr", "prune weights matching first; rewind lr"),
        ("prune weights 30% x 3; rewind lr", "prune filters matching first; rewind lr"),
        ("prune weights 30% x 3; rewind lr", "prune weights matching first x 4; rewind lr"),
        ("prune weights 30% x 3; rewind lr", "prune weights 10%; rewind lr; prune weights matching first; rewind lr"),
        ("prune weights 30% x 3; rewind lr", "prune weights matching first by snip at init"),
        ("prune weights 80% x 2; rewind lr", "prune weights matching first in conv1; rewind lr"),
        ("prune weights local 30%; rewind lr", "prune weights local matching first except fc; rewind lr"),
    ],
)
def test_what_cannot_be_matched(first: str, second: str) -> None:
    assert "TD521" in codes(f"arm first {{ {first} }}\narm second {{ {second} }}")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("prune weights 30% x 3; rewind lr", "prune weights matching first; rewind lr"),
        ("prune weights 30% x 3; rewind lr", "prune weights matching first x 2 by random; rewind weights"),
        ("prune filters 30% x 3; rewind lr", "prune weights matching first; rewind lr"),
        ("prune weights 90%; rewind lr", "prune weights matching first by snip at init"),
        ("prune weights 30% until 60%; rewind lr", "prune weights matching first; rewind lr"),
        ("prune weights 30% x 3 except fc; rewind lr", "prune weights matching first except conv1; rewind lr"),
        ("prune weights local 30% except fc; rewind lr", "prune weights local matching first except fc; rewind lr"),
    ],
)
def test_what_can_be_matched(first: str, second: str) -> None:
    assert "TD521" not in codes(f"arm first {{ {first} }}\narm second {{ {second} }}")


def test_filters_match_layers() -> None:
    arms = "arm first { prune layers 2; rewind lr }\narm second { prune filters matching first; rewind lr }"
    assert "TD521" not in codes(f"model resnet20\n{arms}")


@pytest.mark.parametrize(
    ("settings", "student", "wrong"),
    [
        ("data digits size=16", "", True),
        ("data synthetic size=8 channels=1", "", True),
        ("data digits samples=400", "", False),
        ("data digits size=8 channels=1", "", False),  # as they are
        ("model conv2", "", False),  # another network may teach
        ("", "split samples 2", False),
    ],
)
def test_teachers_of_other_data(settings: str, student: str, wrong: bool) -> None:
    tail = "overlap; rewind weights to init" if student else "rewind lr"
    text = (
        f"arm big {{ {settings}\nprune weights 20%; rewind lr }}\narm small {{ {student}\nprune weights 40%; {tail}; "
    )
    assert ("TD519" in codes(f"{text}distill from big }}")) == wrong


def test_a_teacher_of_all_classes_cannot_teach_parts_of_them() -> None:
    student = "split classes 2; prune weights 40% except fc; overlap; rewind weights to init; distill from big"
    assert "TD519" in codes(f"arm big {{ prune weights 20%; rewind lr }}\narm small {{ {student} }}")


def test_the_teacher_of_a_transferred_arm_knows_the_new_data() -> None:
    teacher = "arm big { prune weights 20%; rewind lr; transfer to digits size=12 }"
    assert "TD519" in codes(f"{teacher}\narm small {{ prune weights 40%; rewind lr; distill from big }}")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prune weights 40%; rewind lr; distill from dense until=13ep", "TD302"),
        ("prune weights 40%; rewind lr; distill from dense until=277it", "TD302"),  # 12 epochs are 276 steps
        ("prune weights 40%; rewind lr; distill from dense until=276it", None),
        ("prune weights 40%; retrain linear 4ep; distill from dense until=5ep", "TD302"),
        ("prune weights 40%; rewind weights to 50%; distill from dense until=6ep", "TD302"),
        ("prune weights 40%; rewind weights to 50%; distill from dense until=7ep", None),
        ("prune weights 40% at 3ep; distill from dense until=2ep", "TD302"),
        ("prune weights 40%; rewind lr; distill from dense until=init", "TD302"),
        ("prune weights 40%; rewind lr; distill from dense weight=0", "TD201"),
        ("prune weights 40% by snip at init; retrain linear 2ep", "TD314"),
        ("prune weights 40% at 6ep; retrain scratch", "TD314"),
        ("prune weights 40% at 6ep; rewind lr", None),  # the recipe from its start
        ("prune weights 40%; retrain linear 2ep", None),
    ],
)
def test_trainings_after_a_prune(text: str, code: str | None) -> None:
    assert codes(f"seeds 3\n{text}") == ({code} if code else set())


@pytest.mark.parametrize(
    ("pipeline", "found"),
    [
        ("prune weights 20%; rewind lr; distill from dense", True),
        ("prune weights 20% x 2; rewind lr; distill from dense", False),
        ("prune weights 20%; rewind lr; distill from dense; prune weights 20%; rewind lr", False),
        ("prune weights 20%; rewind lr; prune filters 20%; rewind lr; distill from dense", True),
        ("cycle 2 { prune weights 20%; rewind lr; prune filters 20%; rewind lr; distill from dense }", False),
    ],
)
def test_nothing_is_distilled_after_a_transfer(pipeline: str, found: bool) -> None:
    text = f"train 4ep\n{pipeline}\ntransfer to synthetic size=8 channels=1"
    assert ("TD519" in codes(text)) is found


@pytest.mark.parametrize(
    ("pipeline", "found"),
    [
        ("prune weights 20%; rewind lr to 9it\ntransfer to synthetic size=8 channels=1 train=256", True),  # 8 steps
        ("prune weights 20%; rewind lr to 9it\ntransfer to synthetic size=8 channels=1 train=900", False),
        ("prune weights 20%; rewind lr to 50%\ntransfer to synthetic size=8 channels=1 train=256", False),
        ("prune weights 20% at 9it\ntransfer to synthetic size=8 channels=1 train=256", True),
        ("prune weights 20% at 9it\ntransfer to synthetic size=8 channels=1 train=256 { retrain linear 2ep }", False),
    ],
)
def test_the_training_after_a_transfer_starts_before_its_end(pipeline: str, found: bool) -> None:
    assert ("TD302" in codes(f"train 4ep\n{pipeline}")) is found
