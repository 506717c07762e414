"""A run on another host: its name is a name and no option of ssh, its folder one word and no command."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from tickdsl.cli import main
from tickdsl.cli.event_stream import _ssh_command, open_event_stream
from tickdsl.errors import TickdslError

#: Notes its arguments and does what ssh does: the words after the host are one command for a shell.
SSH = """#!/bin/sh
for word in "$@"; do echo "$word" >> "$NOTED"; done
test "$1" = -- || exit 9
shift 2
exec bash -c "exec $*"
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the arguments that ssh got, one per line; the other host is this one."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.write_text(SSH)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    monkeypatch.setenv("NOTED", str(tmp_path / "noted"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "noted"


@pytest.mark.parametrize("home", ["", "~/"])
def test_any_folder_can_be_watched(home: str, ssh: Path, tmp_path: Path) -> None:
    for name in ("plain", "two words", "it's $(touch owned)", "a;touch owned", "-n", "`touch owned`", "* ?", 'a"b'):
        folder = (tmp_path / "home" if home else tmp_path) / "runs" / name
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_text(name)
        stream, process = open_event_stream(f"host:{home or f'{tmp_path}/'}runs/{name}/")
        assert process is not None
        try:
            assert select.select([stream], [], [], 20)[0], f"nothing comes from {name}"
            assert os.read(stream.fileno(), 100).decode() == name
        finally:
            process.kill()
            process.wait()
            stream.close()
        assert ssh.read_text().splitlines()[:2] == ["--", "host"]
    assert not list(tmp_path.rglob("owned"))


@pytest.mark.parametrize(
    "run",
    ["-oProxyCommand=touch owned:runs/x", "-oProxyCommand=x:", ":runs/x", "two hosts:runs", "a\x1b:runs", "host:"],
)
def test_what_names_no_host_is_refused(run: str, ssh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "--plain", "--", run]) == 2
    assert "HOST:FOLDER" in capsys.readouterr().err
    assert not ssh.exists()


def test_only_the_home_folder_is_not_quoted() -> None:
    assert _ssh_command("me@box:~/my runs/1")[-1] == "tail -c +1 -F -- ~/'my runs/1/events.jsonl'"
    assert _ssh_command("box:~other/runs")[-1] == "tail -c +1 -F -- ~other/runs/events.jsonl"
    assert _ssh_command("box:~$(x)/runs")[-1] == "tail -c +1 -F -- '~$(x)/runs/events.jsonl'"
    with pytest.raises(TickdslError):
        _ssh_command("-F/dev/stdin:x")
