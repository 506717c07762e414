"""Commands on file systems that are full, read-only or of another alphabet: what is wrong, where, and what to do."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tickdsl.checks import check_file
from tickdsl.cli import main
from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.errors import TickdslError
from tickdsl.records.files import disk_error

PRUNE = "prune filters 30%; rewind weights to init\n"
WRITES = ("mkdir", "rename", "replace", "unlink", "rmdir", "utime", "chmod", "symlink")


@pytest.fixture
def make_read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Refuse every change below a folder, as on a read-only file system."""

    def forbid(root: Path) -> None:
        def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
            def write(path: Any, *rest: Any, **options: Any) -> Any:
                if any(str(root) in str(place) for place in (path, *rest)):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
                return real(path, *rest, **options)

            return write

        for name in WRITES:
            monkeypatch.setattr(os, name, guarded(getattr(os, name)))

    return forbid


def test_a_preview_needs_no_permission_to_write(harness: Any, make_read_only: Any) -> None:
    harness.write(PRUNE)
    harness.store.mkdir()
    make_read_only(harness.store)
    shown = harness.call("plan", harness.plan, "--store", harness.store)
    assert shown.exit == 0 and "0 of 4 results stored" in shown.out
    assert list(harness.store.iterdir()) == []


def test_a_stored_run_needs_no_permission_to_write_to_the_store(harness: Any, make_read_only: Any) -> None:
    harness.write(PRUNE)
    first = harness.run()
    make_read_only(harness.store)
    assert harness.run().out == first.out
    harness.write(f"{PRUNE}seeds [7]\n")
    refused = harness.run()
    assert refused.exit == 2
    assert f"cannot write {harness.store}" in refused.err and "Read-only file system" in refused.err
    assert "--store" in refused.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_for_the_events(harness: Any) -> None:
    harness.write(PRUNE)
    folder = harness.folder / "run"
    folder.mkdir()
    (folder / "events.jsonl").symlink_to("/dev/full")
    options = LaunchOptions(harness.store, folder=folder, jobs=1, device="cpu")
    with pytest.raises(TickdslError, match=r"no space left on the disk for .*events.jsonl") as caught:
        launch(check_file(harness.plan).require_plan(), PRUNE, options, lambda record: None)
    assert "--out" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("number", "cause", "cure"),
    [
        (errno.EMFILE, "too many files are open", "ulimit -n"),
        (errno.ENFILE, "too many files are open", "--jobs"),
        (errno.ENOMEM, "no memory left", "--jobs"),
    ],
)
def test_a_machine_that_has_no_more_to_give(number: int, cause: str, cure: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), Path("store/results/ab"), "read")
    assert "store/results/ab" in error.message and cause in error.message
    assert error.hint is not None and cure in error.hint and "disk" not in error.hint


def test_a_plan_whose_name_the_terminal_cannot_write(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.write(PRUNE)
    names = ["prüfung – größe.plan", os.fsdecode(b"pr\xfcfung.plan")]
    for name in names:
        harness.plan.with_name(name).write_text(harness.plan.read_text())
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["check", *(str(harness.plan.with_name(name)) for name in names)]) == 0
    text = written.getvalue().decode("ascii")
    assert r"pr\xfcfung \u2013 gr\xf6\xdfe.plan: " in text and r"pr\udcfcfung.plan: " in text


def test_an_input_that_cannot_be_read_is_no_trouble_with_the_output(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "somewhere/weights.bin")

    monkeypatch.setattr("tickdsl.cli.ls._ls", fail)
    result = harness.call("ls")
    assert result.exit == 2
    assert "cannot read somewhere/weights.bin: Input/output error" in result.err and "help: " in result.err
