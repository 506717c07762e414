"""Plans are read from regular files and pipes of bounded size; includes only from files named `.plan`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.lang.findings.render import render
from tickdsl.lang.reading import include, plan_files
from tickdsl.lang.reading.include import LoadedPlan, load_plan, load_source
from tickdsl.lang.reading.parse import read_source
from tickdsl.lang.syntax import Source

PLAN = "prune weights 20%; rewind lr\n"
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")


def including(folder: Path, name: str | Path) -> LoadedPlan:
    return load_source(Source(str(folder / "main.plan"), f'include "{name}"\n{PLAN}'))


def odd_files(folder: Path) -> dict[str, Path]:
    """What a file's kind is called, and a file of this kind."""
    os.mkfifo(folder / "fifo.plan")
    (folder / "folder.plan").mkdir()
    with (folder / "huge.plan").open("wb") as huge:
        huge.truncate(2**40)  # sparse
    (folder / "device.plan").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket.plan"))
    kinds = {"pipe": "fifo", "folder": "folder", "larger than a plan": "huge", "socket": "socket"}
    return {kind: folder / f"{stem}.plan" for kind, stem in kinds.items()}


def test_an_include_reads_regular_files_of_a_plans_size(tmp_path: Path) -> None:
    for kind, path in odd_files(tmp_path).items():
        (error,) = including(tmp_path, path).diagnostics
        assert error.code == "TD113" and kind in error.message, kind
    (error,) = including(tmp_path, "/dev/zero").diagnostics
    assert error.code == "TD113" and "does not end in .plan" in error.message
    (error,) = including(tmp_path, "device.plan").diagnostics
    assert error.code == "TD113" and "a link to" in error.message


def test_the_command_line_refuses_what_is_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.plan"
    good.write_text(PLAN)
    odd = odd_files(tmp_path)
    del odd["pipe"]
    for command in ("check", "fmt"):
        for kind, path in {**odd, "device": Path("/dev/zero")}.items():
            flags = ["--no-network"] if command == "check" else ["--check"]
            if command == "check" or kind != "folder":  # `fmt` formats the plans in a folder
                assert main([command, *flags, str(path), str(good)]) == 2
                assert kind in capsys.readouterr().err


def test_a_named_pipe_without_a_writer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_files, "PIPE_SECONDS", 0.05)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TickdslError, match="nothing was written"):
        read_source(tmp_path / "pipe")


def test_a_named_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = "# slow\n" * 20_000 + PLAN
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(text))
    writer.start()
    assert read_source(tmp_path / "pipe").text == text
    writer.join()


def test_a_pipe_is_bounded() -> None:
    """What a process substitution names: a pipe without a name, whose writer never ends."""
    reading, writing = os.pipe()

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            while True:
                os.write(writing, b"prune weights 20%\n" * 1000)
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(TickdslError, match="larger than a plan"):
        read_source(f"/dev/fd/{reading}")
    os.close(reading)
    writer.join()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writer", "code"),
    [("echo 'prune weights 20%; rewind lr'", 0), ("sleep 1; echo 'prune weights 20%; rewind lr'", 0), ("true", 1)],
    ids=("written", "slow", "empty"),
)
def test_process_substitution(writer: str, code: int, tmp_path: Path) -> None:
    command = f"{sys.executable} -m tickdsl.cli check --no-network <({writer})"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("name", ["secret.txt", "linked.plan", "../outside/secret.txt", ".plan"])
def test_lines_of_files_that_are_no_plans_are_not_shown(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    folder = tmp_path / "plans"
    folder.mkdir()
    for secret in (folder / "secret.txt", tmp_path / "outside" / "secret.txt", folder / ".plan"):
        secret.write_text("token hunter2\n")
    (folder / "linked.plan").symlink_to("secret.txt")
    errors = including(folder, name).diagnostics
    assert [error.code for error in errors] == ["TD113"]
    assert "hunter2" not in render(errors) + render(errors, "json")


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_every_command_includes_plan_files_alone(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("token hunter2\n")
    os.mkfifo(tmp_path / "pipe.plan")
    (tmp_path / "folder.plan").mkdir()
    plan = tmp_path / "main.plan"
    plan.write_text('include "secret.txt"\ninclude "pipe.plan"\ninclude "folder.plan"\n' + PLAN)
    assert main([command, str(plan)]) == 1
    output = "".join(capsys.readouterr())
    assert output.count("error[TD113]") == 3 and "a pipe, not a plan file" in output
    assert "hunter2" not in output and "did you mean" not in output


def test_a_plan_beside_or_above_can_be_included(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "common.plan").write_text("train 3ep\n")
    (tmp_path / "papers" / "link.plan").symlink_to("../common.plan")
    for name in ("../common.plan", "link.plan", tmp_path / "common.plan"):
        loaded = including(tmp_path / "papers", name)
        assert not loaded.diagnostics and len(loaded.statements) == 3


def test_doubled_includes_end(tmp_path: Path) -> None:
    """Eighteen files, each of which includes the next one twice."""
    for number in range(18):
        (tmp_path / f"p{number}.plan").write_text(f'include "p{number + 1}.plan"\n' * 2)
    (tmp_path / "p18.plan").write_text("let a = 1\n")
    (error,) = load_plan(tmp_path / "p0.plan").diagnostics
    assert error.code == "TD113" and f"at most {include.MAX_INCLUDES} files" in error.message
    assert error.span.text.startswith('"p1')


def test_included_files_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(include, "MAX_PLAN_BYTES", 10_000)
    (tmp_path / "part.plan").write_text("# padding\n" * 300)
    text = 'include "part.plan"\n' * 5
    (error,) = load_source(Source(str(tmp_path / "main.plan"), text)).diagnostics
    assert "the included files hold more than" in error.message and error.span.line == 4


@pytest.mark.parametrize("name", ["loop.plan", "n" * 5000 + ".plan", "a/" * 3000 + "b.plan"])
def test_paths_that_lead_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop.plan").symlink_to("loop.plan")
    (error,) = including(tmp_path, name).diagnostics
    assert error.code == "TD113"
