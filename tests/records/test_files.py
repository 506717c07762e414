"""Files that are written atomically, and what is no file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records.files import write_atomically


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for content in (b"old", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "kept" / "report.html", tmp_path / "latest.html"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    target.unlink()
    write_atomically(link, b"newer")
    assert link.is_symlink() and target.read_bytes() == b"newer"


@pytest.mark.skipif(os.name != "posix", reason="needs a named pipe")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"a report")
    reader.join()
    assert read == [b"a report"] and pipe.is_fifo()


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match=str(tmp_path)):
        write_atomically(tmp_path, b"x")


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"old"
