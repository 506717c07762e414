"""`watch -` says when its stream of events breaks off, whatever the clock of the host that it comes from says."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from tickdsl.cli import watch
from tickdsl.records import read_events
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.event_log import encode
from tickdsl.records.events import Heartbeat, RunEnd
from tickdsl.records.pipe_reader import PipeReader


def stream(folder: Path, clock: float, *, end: bool) -> bytes:
    """The events of a run on another host, whose clock differs from ours by `clock` seconds."""
    events = [record.event for record in read_events(write_run(folder).events)]
    kept = [event for event in events if end or not isinstance(event, RunEnd)]
    kept.insert(1, Heartbeat(pid=1, host="elsewhere", boot="b"))
    return b"".join(encode(EventRecord(n, time.time() + clock, event)) for n, event in enumerate(kept))


@pytest.fixture
def followed(harness: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    def follow(content: bytes) -> Any:
        monkeypatch.setattr(watch, "open_event_stream", lambda run: (io.BytesIO(content), None))
        return harness.call("watch", "-", "--plain")

    return follow


@pytest.mark.parametrize("clock", [-660.0, 0.0, 660.0])
def test_a_stream_that_breaks_off(followed: Any, tmp_path: Path, clock: float) -> None:
    result = followed(stream(tmp_path / "r", clock, end=False))
    assert result.exit == 2
    assert "the stream of events ended, but not the run" in result.err
    assert "crashed" not in result.err


@pytest.mark.parametrize("clock", [-660.0, 660.0])
def test_a_run_that_ends(followed: Any, tmp_path: Path, clock: float) -> None:
    result = followed(stream(tmp_path / "r", clock, end=True))
    assert result.exit == 0
    assert "stream" not in result.err


def test_a_slow_stream_from_a_host_whose_clock_is_behind_is_alive(
    harness: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The watcher looks while nothing is there yet: once after each part of the stream."""
    records = stream(tmp_path / "r", -660.0, end=True).splitlines(keepends=True)
    parts = [records[:5], [], records[5:10], [], records[10:]]

    class Slow(PipeReader):
        def poll(self, limit: int | None = None) -> list[EventRecord]:
            return self._decoder.feed(b"".join(parts.pop(0))) if parts else super().poll(limit)

    monkeypatch.setattr(watch, "PipeReader", Slow)
    monkeypatch.setattr(watch, "open_event_stream", lambda run: (io.BytesIO(), None))
    monkeypatch.setattr(watch, "_POLL_SECONDS", 0.0)
    result = harness.call("watch", "-", "--plain")
    assert result.exit == 0 and not parts
