"""A choice is measured once, for all processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records.kept_choices import KeptChoices


def test_measured_once_for_all(tmp_path: Path) -> None:
    measured: list[str] = []

    def measure() -> bool:
        measured.append("x")
        return len(measured) == 1

    first = KeptChoices(tmp_path / "choices")
    assert first.settle("one", measure) is True
    assert first.settle("one", measure) is True
    assert KeptChoices(tmp_path / "choices").settle("one", measure) is True
    assert measured == ["x"]
    assert first.settle("other", measure) is False
    assert sorted(path.suffix for path in (tmp_path / "choices").iterdir()) == [".json", ".json"]


def test_of_two_that_measure_at_once_the_first_counts(tmp_path: Path) -> None:
    def overtaken() -> bool:
        assert KeptChoices(tmp_path).settle("one", lambda: True)
        return False

    assert KeptChoices(tmp_path).settle("one", overtaken) is True


def test_a_damaged_answer_is_measured_again(tmp_path: Path) -> None:
    KeptChoices(tmp_path).settle("one", lambda: True)
    (kept,) = tmp_path.iterdir()
    kept.write_text("{")
    assert KeptChoices(tmp_path).settle("one", lambda: False) is False
    assert KeptChoices(tmp_path).settle("one", lambda: True) is False


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TickdslError, match="file is in the way"):
        KeptChoices(tmp_path / "file").settle("one", lambda: True)
