"""A test that cannot be repeated as it was is known, and only then may images be classified differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from exported_tickets import catalogue_ticket

from tickdsl.records.image_flags import encode_flags
from tickdsl.records.process import host_name
from tickdsl.records.store import Result
from tickdsl.tickets.conditions import conditions_of
from tickdsl.tickets.errors import VerificationError
from tickdsl.tickets.export_format import Subject, TestConditions, TestInputs
from tickdsl.tickets.verification import compare_accuracy


def result(
    made: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None, precision: str = "fp32"
) -> Result:
    here = {"device": "cpu", "threads": 3, "torch": str(torch.__version__), "host": host_name()}
    args = {"recipe": {"precision": "fp32"}}
    return Result("key", Path(), {"made": {**here, **(made or {})}, "metrics": metrics or {}, "parts": {"args": args}})


def test_a_test_of_this_machine_can_be_repeated() -> None:
    assert conditions_of(
        result(metrics={"layout": "channels_last", "compiled": False, "sparse": []})
    ) == TestConditions(threads=3, layout="channels_last")


@pytest.mark.parametrize(
    ("made", "metrics", "reason"),
    [
        ({"device": "cuda:0"}, {}, "it was tested on a GPU"),
        ({"torch": "1.0"}, {}, "it was tested with torch 1.0"),
        ({"host": "elsewhere"}, {}, "it was tested on another machine (elsewhere)"),
        ({}, {"compiled": True}, "it was compiled"),
        ({}, {"stacked": 3}, "it was trained and tested in a stack"),
        ({}, {"sparse": ["fc"]}, "it was tested with sparse matrix products"),
    ],
)
def test_what_cannot_be_repeated_is_named(made: dict[str, Any], metrics: dict[str, Any], reason: str) -> None:
    assert conditions_of(result(made, metrics)).differences == (reason,)


def subject(stored_right: int, differences: tuple[str, ...] = ()) -> tuple[Subject, torch.Tensor]:
    """1000 images of which `stored_right` are right in the store, and the first 900 here."""
    ticket, network = catalogue_ticket("small-cnn")
    flags = encode_flags(b"\1" * stored_right + b"\0" * (1000 - stored_right))
    ticket = attrs.evolve(ticket, metrics={"accuracy": stored_right / 1000, "correct": flags})
    known = Subject(
        ticket=ticket,
        network=network,
        test=TestInputs.random(ticket.preprocessing),
        conditions=TestConditions(differences=differences),
    )
    return known, torch.arange(1000) < 900


def test_equal_images_are_as_stored() -> None:
    verified = compare_accuracy(Path("x"), *subject(900))
    assert verified.sentence.endswith("1,000 test images: 90.00%, as stored, and the same images are right")


def test_one_other_image_is_too_much_where_the_test_can_be_repeated() -> None:
    with pytest.raises(VerificationError, match="1 image is classified differently"):
        compare_accuracy(Path("x"), *subject(901))
    swapped, correct = subject(900)
    correct[0], correct[999] = False, True  # the accuracy is the same
    with pytest.raises(VerificationError, match="2 images are classified differently"):
        compare_accuracy(Path("x"), swapped, correct)


def test_elsewhere_a_few_images_may_differ() -> None:
    verified = compare_accuracy(Path("x"), *subject(903, ("it was compiled",)))
    assert verified.sentence.endswith("stored is 90.30%: 3 images are classified differently, since it was compiled")
    with pytest.raises(VerificationError):
        compare_accuracy(Path("x"), *subject(920, ("it was compiled",)))
