"""Events survive incomplete lines, restarts and any chunking of the stream; their types are stable."""

import io
import itertools
import json
import re
import resource
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.records import EventDecoder, EventReader, EventWriter, read_events
from tickdsl.records.events import (
    TYPES,
    ArmInfo,
    Heartbeat,
    LayerInfo,
    Log,
    MeasurementInfo,
    Metric,
    MetricInfo,
    PlanResolved,
    StepEnd,
    StepInfo,
    StepProgress,
    TaskInfo,
)

SURFACE = {
    "run.start": "run plan path argv pid host boot versions jobs device store workers device_share",
    "plan.resolved": "arms contestants seeds steps measurements notes within matched_by report asked open_ended stops "
    "data tasks metric",
    "phase": "doing",
    "network": "arms model params macs layers",
    "step.start": "step attempt worker",
    "step.progress": "step epoch epochs loss accuracy lr score metric measured_on penalty",
    "step.end": "step status seconds metrics error",
    "metric": "arm contestant level seed step accuracy loss sparsity params macs filters seconds "
    "best_accuracy best_epoch test_images chance correct not_finite score metric best_score figures validation "
    "best_validation units",
    "measure": "arm contestant level seed step metric figures how host",
    "layers": "arm contestant level seed outputs weights",
    "checkpoint": "step epoch",
    "log": "message",
    "warn": "message code",
    "resource": "cpu ram gpu",
    "transfer": "host requests received sent",
    "heartbeat": "pid host boot",
    "control.ack": "id command state",
    "run.end": "status seconds exit message",
}


def test_no_type_or_field_was_renamed() -> None:
    assert {name: " ".join(field.name for field in attrs.fields(kind)) for name, kind in TYPES.items()} == SURFACE


def test_every_type_and_field_is_documented() -> None:
    document = Path(__file__).parents[2] / "docs" / "reference" / "results.md"
    words = set(re.findall(r"`([a-z._]+)`", document.read_text(encoding="utf-8")))
    nested = [
        field.name
        for kind in (ArmInfo, StepInfo, MeasurementInfo, LayerInfo, TaskInfo, MetricInfo)
        for field in attrs.fields(kind)
    ]
    assert {*SURFACE, *" ".join(SURFACE.values()).split(), *nested} <= words


def writer(path: Path, start: float = 100.0) -> EventWriter:
    ticks = iter(range(10_000))
    return EventWriter(path, clock=lambda: start + next(ticks))


def test_a_line_is_readable_by_anyone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writer(path) as out:
        out.write(StepEnd(step="s1", status="done", seconds=1.5, metrics={"accuracy": 0.5}))
    assert path.read_text() == (
        '{"v":1,"seq":0,"t":100.0,"type":"step.end","step":"s1","status":"done","seconds":1.5,'
        '"metrics":{"accuracy":0.5},"error":null}\n'
    )


def test_every_nested_value_comes_back(tmp_path: Path) -> None:
    event = PlanResolved(
        arms=(ArmInfo(id="a[k=1]", name="a", sweep={"k": 1}, levels=3),),
        contestants=("ticket", "dense"),
        seeds=(1, 2),
        steps=(StepInfo(id="s1", key="k", operation="train", label="train", arms=("a[k=1]",), epochs=2),),
        measurements=(MeasurementInfo(arm="a[k=1]", contestant="ticket", level=0, seed=1, step="s1"),),
        notes=("a note",),
        tasks={"a[k=1]": TaskInfo(name="t", metrics=(MetricInfo(name="rmse", higher_is_better=False, unit="m"),))},
        metric="rmse",
    )
    path = tmp_path / "events.jsonl"
    with writer(path) as out:
        out.write(event)
    assert [record.event for record in read_events(path)] == [event]


def test_what_is_not_finite_is_null_and_other_scalars_are_numbers(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "events.jsonl"
    with writer(path) as out:
        out.write(StepProgress(step="s", epoch=numpy.int64(1), epochs=2, loss=float("nan"), lr=numpy.float32(0.5)))
    (record,) = read_events(path)
    assert record.event == StepProgress(step="s", epoch=1, epochs=2, loss=None, lr=0.5)


def test_a_torn_line_is_healed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writer(path) as out:
        out.write(Log(message="one"))
        out.write(Log(message="two"))
    path.write_bytes(path.read_bytes()[:-5])
    with writer(path) as out:
        out.write(Log(message="three"))
    reader = EventReader(path)
    records = reader.poll()
    assert [record.event for record in records] == [Log(message="one"), Log(message="three")]
    assert [record.seq for record in records] == [0, 1]
    assert reader.damaged == 1


def test_numbering_goes_on_after_a_very_long_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with writer(path) as out:
        for _ in range(3):
            out.write(Log(message="x"))
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":9' + b" " * 3_000_000)
    with writer(path) as out:
        assert out.write(Log(message="y")).seq == 3


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=8), noise=st.binary(max_size=20))
def test_any_cut_gives_the_same_events(cuts: list[int], noise: bytes) -> None:
    lines = [json.dumps({"v": 1, "seq": n, "t": n, "type": "log", "message": f"line {n} é"}).encode() for n in range(8)]
    stream = b"\n".join([*lines[:4], noise.replace(b"\n", b""), *lines[4:], b""])
    decoder = EventDecoder()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    records = [r for a, b in itertools.pairwise(edges) for r in decoder.feed(stream[a:b])]
    assert [record.seq for record in records] == list(range(8))


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"v":1,"t":1,"type":"log","message":"no seq"}',
        b'{"v":1,"seq":1,"t":NaN,"type":"log","message":"x"}',
        b'{"v":1,"seq":1,"t":1,"type":"log"}',
        b'{"v":1,"seq":1,"t":1,"type":"log","message":7}',
        b'{"v":1,"seq":1,"t":1,"type":"metric","arm":"a"}',
        b'{"v":1,"seq":1,"t":1,"type":"heartbeat","pid":null,"host":"h","boot":"b"}',
        b'{"v":1,"seq":1,"t":1,"type":"plan.resolved","arms":[3],"contestants":[],"seeds":[],"steps":[],'
        b'"measurements":[]}',
    ],
)
def test_what_is_no_event_is_counted_not_raised(line: bytes) -> None:
    decoder = EventDecoder()
    assert decoder.feed(line + b"\n") == []
    assert (decoder.damaged, decoder.unknown) == (1, 0)


def test_what_a_newer_version_writes_is_passed_over() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b'{"v":1,"seq":1,"t":1,"type":"galaxy"}\n{"v":2,"seq":1,"t":1,"type":"log"}\n') == []
    (record,) = decoder.feed(b'{"v":1,"seq":1,"t":1,"type":"log","message":"m","colour":"red"}\n')
    assert record.event == Log(message="m")
    assert (decoder.damaged, decoder.unknown) == (0, 2)


def test_a_reader_follows_a_file_that_grows_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.poll() == []
    with writer(path) as out:
        out.write(Log(message="one"))
        assert len(reader.poll()) == 1
        assert reader.poll() == []
        out.write(Heartbeat(pid=1, host="h", boot="b"))
        out.write(Log(message="two"))
        assert len(reader.poll()) == 2
    path.unlink()
    with writer(path) as out:
        out.write(Log(message="new"))
    assert [record.event for record in reader.poll()] == [Log(message="new")]


def test_a_stream_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    metric = Metric(arm="a", contestant="ticket", level=1, seed=1, step="s", accuracy=None)
    with writer(path) as out:
        for _ in range(1000):
            out.write(metric)
    assert len(list(read_events(io.BytesIO(path.read_bytes())))) == 1000


def test_a_folder_is_no_file_of_events(tmp_path: Path) -> None:
    with pytest.raises(TickdslError):
        EventWriter(tmp_path)
    with pytest.raises(TickdslError):
        list(read_events(tmp_path))


def test_a_line_without_end_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its chunks are, what is between lines that are too long is read."""
    monkeypatch.setattr("tickdsl.records.event_log.MAX_LINE_BYTES", 1000)
    good = [json.dumps({"v": 1, "seq": n, "t": n, "type": "log", "message": "m"}).encode() + b"\n" for n in range(3)]
    stream = good[0] + b"x" * 5000 + b"\n" + good[1] + b"[" * 9000 + b"\n" + good[2] + b"x" * 3000
    for size in (1, 7, 100, 1001, 4000, len(stream)):
        decoder = EventDecoder()
        records = []
        for start in range(0, len(stream), size):
            records += decoder.feed(stream[start : start + size])
            assert len(decoder._partial_line) <= 1000 + size
        assert [record.seq for record in records] == [0, 1, 2], size
        assert decoder.damaged == (3 if size < 3000 else decoder.damaged)


def test_a_file_of_gigabytes_without_a_line_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(Log(message="first"))
    with path.open("ab") as file:
        file.truncate(4 << 30)  # a hole, which takes no space
    before = _peak_memory()
    reader = EventReader(path)
    assert [record.seq for record in reader.poll(1 << 27)] == [0]
    assert _peak_memory() - before < 200 << 20


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("t", ["1e999", "-1e300", "1" * 400])
def test_a_time_that_is_none_is_damage(t: str) -> None:
    decoder = EventDecoder()
    assert decoder.feed(b'{"v":1,"seq":1,"t":%s,"type":"log","message":"x"}\n' % t.encode()) == []
    assert decoder.damaged == 1
