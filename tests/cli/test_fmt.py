"""`tickdsl fmt` on files, folders and standard input."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from tickdsl.cli import main

MESSY, TIDY = "prune   filters 20 % x8;rewind lr\n", "prune filters 20% x 8; rewind lr\n"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "a.plan"
    path.write_text(MESSY)
    return path


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_it_writes_the_file_and_names_it(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.chmod(0o640)
    assert main(["fmt", str(plan)]) == 0
    assert plan.read_text() == TIDY
    assert stat.S_IMODE(plan.stat().st_mode) == 0o640
    assert capsys.readouterr().out == f"{plan}: formatted\n"
    assert main(["fmt", str(plan)]) == 0
    assert capsys.readouterr().out == ""


def test_check_and_diff_write_nothing(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", str(plan)]) == 1
    assert capsys.readouterr().out == f"{plan}: would be formatted\n"
    assert main(["fmt", "--diff", str(plan)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"--- {plan}\n+++ {plan} (formatted)\n@@") and f"-{MESSY}+{TIDY}" in out
    assert plan.read_text() == MESSY
    plan.write_text(TIDY)
    assert main(["fmt", "--check", "--diff", str(plan)]) == 0
    assert capsys.readouterr().out == ""


def test_standard_input_goes_to_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    pipe(monkeypatch, b"\xef\xbb\xbflet a=1\r\nlet b=2 # \xc3\x97")
    assert main(["fmt", "-"]) == 0
    assert capsysbinary.readouterr().out == b"let a = 1\r\nlet b = 2  # \xc3\x97\r\n"


def test_a_plan_with_errors_is_reported_and_not_changed(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text("prune filters 20%, rewind lr")
    other = plan.with_name("b.plan")
    other.write_text(MESSY)
    assert main(["fmt", str(plan), str(other)]) == 1
    assert "TD013" in capsys.readouterr().err
    assert plan.read_text() == "prune filters 20%, rewind lr"
    assert other.read_text() == TIDY


def test_errors_in_standard_input_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    pipe(monkeypatch, b"pruen")
    assert main(["fmt", "-"]) == 1
    result = capsysbinary.readouterr()
    assert result.out == b"" and b"<stdin>:1:1" in result.err


def test_a_folder_means_its_plans(plan: Path) -> None:
    assert main(["fmt", str(plan.parent)]) == 0
    assert plan.read_text() == TIDY
    assert main(["fmt", "--check", str(Path(__file__).parents[2] / "plans")]) == 0


def test_a_link_stays_a_link(plan: Path) -> None:
    link = plan.with_name("link.plan")
    link.symlink_to(plan.name)
    assert main(["fmt", str(link)]) == 0
    assert link.is_symlink() and plan.read_text() == TIDY


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_an_error(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.plan"
    if content is not None:
        path.write_bytes(content)
    assert main(["fmt", str(path)]) == 2
    assert f"tickdsl: {path}: " in capsys.readouterr().err


def test_usage_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", str(tmp_path)]) == 2
    assert main(["fmt", "-", "x.plan"]) == 2
    assert main(["fmt", "\0"]) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_an_error(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.parent.chmod(0o500)
    try:
        assert main(["fmt", str(plan)]) == 2
    finally:
        plan.parent.chmod(0o700)
    assert plan.read_text() == MESSY
