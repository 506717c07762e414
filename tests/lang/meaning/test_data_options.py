"""The option `test=` of `data folder`: a share of each class, below all of it."""

from __future__ import annotations

import pytest

from tickdsl.lang.meaning.resolve import ResolvedPlan, resolve
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.lang.writing.format import format_source
from tickdsl.lang.writing.unparse import settings
from tickdsl.plan.model import as_json


def meaning(options: str) -> ResolvedPlan:
    text = f'data folder path="images" {options}\nprune filters 20%; rewind lr\n'
    return resolve(load_source(Source("test.plan", text), {}))


@pytest.mark.parametrize(("written", "share"), [("20%", 0.2), ("12.5%", 0.125), ("0.2", 0.2)])
def test_a_share_is_read_and_written(written: str, share: float) -> None:
    plan = meaning(f"test={written}").plan
    assert plan is not None
    (arm,) = plan.arms
    assert as_json(arm.data)["options"] == {"path": "images", "test": share}
    assert f"test={share * 100:g}%" in settings(arm)[1]


@pytest.mark.parametrize(
    ("written", "code", "message"),
    [
        ("0%", "TD201", "above 0%"),
        ("100%", "TD201", "below 100%"),
        ("1", "TD201", "below 100%"),
        ("20", "TD201", "out of range"),
        ("many", "TD105", "must be a percentage such as"),
    ],
)
def test_a_share_of_nothing_or_everything_is_refused(written: str, code: str, message: str) -> None:
    result = meaning(f"test={written}")
    assert [(error.code, message in error.message) for error in result.errors] == [(code, True)]


def test_the_synthetic_data_set_still_counts_its_test_images() -> None:
    text = "data synthetic test=200\nprune filters 20%; rewind lr\n"
    plan = resolve(load_source(Source("test.plan", text), {})).plan
    assert plan is not None and plan.arms[0].data.options["test"] == 200


def test_the_formatter_keeps_it() -> None:
    text = 'data folder path="images" test=20%\nprune filters 20%\nrewind lr\n'
    assert "test=20%" in format_source(Source("test.plan", text))
