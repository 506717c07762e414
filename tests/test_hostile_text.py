"""Text of others cannot control the terminal, whatever shows it: it reaches every front as escapes."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_run import StubSource, wait_until_drawn
from tickdsl.tui import Monitor
from tickdsl.tui.keys import VIEWS
from written_runs import write_run

from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.printable import printable, printable_json, printable_line, printable_value
from tickdsl.records import EventWriter, RunPaths, read_events
from tickdsl.records.events import Event

ROOT = Path(__file__).parents[1]
#: The clipboard, the window's title, 8-bit CSI, colours, a right-to-left override, backspaces, a byte that is no UTF-8.
HOSTILE = (
    "\x1b]52;c;cm0gLXJm\x07\x1b]0;owned\x1b\\\x9b2J\x1b[8m\u202egnp\u2066\x08\x08\rX[@click=app.quit]y[/][red]<b>\udc9b"
)
ARM = "model small-cnn on digits\ntrain 2ep lr=0.1\narm one { prune filters 30%; rewind weights to init }\n"

text_of_others = st.text(st.characters(exclude_categories=[]))
json_of_others = st.recursive(
    st.none() | st.booleans() | st.floats() | text_of_others,
    lambda inner: st.lists(inner) | st.dictionaries(text_of_others, inner),
)


def assert_harmless(text: str, shown: bool = True) -> None:
    """`text` has nothing but newlines that a terminal obeys; `shown`: the hostile text is visible in it."""
    assert printable(text) == text
    assert r"\x1b]52" in text or r"\u001b]52" in text or not shown


@given(text_of_others)
def test_what_is_printable_stays_and_the_rest_becomes_escapes(text: str) -> None:
    shown = printable(text)
    assert all(char.isprintable() or ord(char) >= 0xA0 or char in "\n\t" for char in shown)
    shown.encode("utf-8")
    assert printable(shown) == shown
    assert shown == text or not text.isprintable()
    assert "\n" not in printable_line(text)
    literal = printable_line(text.translate({ord("\\"): "/", ord("'"): "/"}))
    assert ast.literal_eval(f"'{literal}'") == text.translate({ord("\\"): "/", ord("'"): "/"})


@settings(max_examples=30, deadline=None)
@given(json_of_others)
def test_json_shown_has_the_same_values(value: Any) -> None:
    document = json.dumps(value, ensure_ascii=False)
    shown = printable_json(document)
    assert printable(shown) == shown
    assert json.dumps(json.loads(shown)) == json.dumps(value)
    clean = printable_value(value)
    assert repr(printable_value(clean)) == repr(clean)
    assert not list(texts_in(clean, unprintable=True))


def test_errors_are_printable() -> None:
    error = TickdslError(f"{HOSTILE}: no such file", f"remove {HOSTILE}")
    assert_harmless(str(error))
    assert_harmless(error.message + (error.hint or ""))


def test_the_commands_print_through_one_function() -> None:
    def bare_prints(path: Path) -> list[int]:
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        return [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]

    assert {path.name for path in (ROOT / "tickdsl/cli").glob("*.py") if bare_prints(path)} == {"output.py"}


def texts_in(value: Any, unprintable: bool = False) -> Iterator[str]:
    """All texts in a value, an event, or a part of one; or only those that are not printable."""
    if isinstance(value, str):
        if not unprintable or printable(value) != value:
            yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in texts_in(part, unprintable))
    elif isinstance(value, (tuple, list)):
        yield from (text for item in value for text in texts_in(item, unprintable))
    elif attrs.has(type(value)):
        shown = [field.name for field in attrs.fields(type(value)) if not field.metadata.get("raw")]
        yield from (text for name in shown for text in texts_in(getattr(value, name), unprintable))


# -- plans


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan with hostile text in a folder with a hostile name."""
    folder = tmp_path / HOSTILE.replace("/", "|")
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")
    path = folder / "hostile.plan"
    quoted = HOSTILE.replace("\udc9b", "").replace("\\", "|")
    path.write_text(f'# {quoted}\ninclude "{quoted}"\n{ARM}prune filters 20% in "{quoted}"\n{quoted}\n', "utf-8")
    return path


def output(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    with contextlib.suppress(SystemExit):  # of argparse
        main([str(argument) for argument in arguments])
    return "".join(capsys.readouterr())


@pytest.mark.parametrize("form", ["full", "concise", "json", "github", "sarif"])
def test_findings(form: str, plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_harmless(output(capsys, "check", plan, "--format", form))


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "{plan}.missing"), ("run", "{plan}"), ("run", "{plan}.missing"), ("plan", "{plan}"),
        ("fmt", "{plan}"), ("fmt", "--diff", "{plan}"), ("graph", "{plan}"),
        ("ls", "--out", "{plan}"), ("report", "{plan}"), ("watch", "{plan}"),
        ("stop", "{plan}"), ("explain", "{plan}"), ("run", "{plan}", "{plan}"), ("{plan}",),
        ("graph", "resnet20", "--on", "{plan}"), ("graph", "{plan}.x", "--option", "a={plan}"),
    ],
)  # fmt: skip
def test_complaints(arguments: tuple[str, ...], plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_harmless(output(capsys, *(argument.format(plan=plan) for argument in arguments)))


@pytest.mark.parametrize("flags", [(), ("--steps",), ("--json",), ("--expand",), ("--why", "zz")])
def test_previews(flags: tuple[str, ...], plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan.write_text(ARM)
    assert_harmless(output(capsys, "plan", plan, *flags), shown=flags == ())


def test_layers_and_classes(plan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (plan.parent.parent / "hostile_net.py").write_text(
        f"""from torch import nn
HOSTILE = {HOSTILE.replace(".", "").encode("utf-8", "ignore").decode()!r}
Layer = type(HOSTILE, (nn.Conv2d,), {{}})
def net(classes, shape):
    body = nn.Sequential()
    body.add_module(HOSTILE, Layer(shape[0], 4, 3))
    return nn.Sequential(body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""
    )
    monkeypatch.setattr("tickdsl.plugins.permission._allowed", False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for flags in ((), ("--dot",), ("--svg",), ("--json",)):
        assert_harmless(output(capsys, "graph", "hostile_net:net", "--allow-code", *flags), shown=flags != ("--svg",))


def test_archives(tmp_path: Path) -> None:
    from tickdsl.training.data import datasets

    name = HOSTILE.replace("\udc9b", "")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for part in ("train", "test"):
            archive.writestr(f"{part}/{name}/1.png", b"no image")
    with pytest.raises(TickdslError) as caught:
        datasets.load("folder", root=tmp_path, options={"path": str(tmp_path / "images.zip")})
    assert_harmless(str(caught.value))


# -- runs


def hostile_events(paths: RunPaths) -> None:
    """Append hostile text to every text of the events in a run folder, the same everywhere."""
    words = {"type", "status", "contestant", "contestants", "operation", "command", "state", "metric", "how"}

    def poisoned(value: Any, name: str = "") -> Any:
        if isinstance(value, str):
            return value if name in words else value + HOSTILE
        if isinstance(value, list):
            return [poisoned(item, name) for item in value]
        if isinstance(value, dict):
            return {key: poisoned(inner, key) for key, inner in value.items()}
        return value

    lines = [json.loads(line) for line in paths.events.read_bytes().splitlines()]
    paths.events.write_text("".join(f"{json.dumps(poisoned(line))}\n" for line in lines))


@pytest.fixture
def hostile_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunPaths:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "2000")
    run = write_run(tmp_path / "runs", end="failed", plan=HOSTILE)
    run.plan.write_text(f"# {HOSTILE}\n{ARM}", "utf-8", "surrogatepass")
    hostile_events(run)
    renamed = run.folder.with_name(f"{HOSTILE.replace('/', '|').replace(chr(13), '')}-20260101-000000-0000")
    (tmp_path / "runs" / "latest").unlink()
    return RunPaths(run.folder.rename(renamed))


@pytest.mark.parametrize(
    "arguments", [("ls",), ("ls", "--json"), ("watch", "--plain"), ("replay", "--plain", "--speed", "1e9"), ("stop",)]
)
def test_runs(arguments: tuple[str, ...], hostile_run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert_harmless(output(capsys, *arguments))


@pytest.mark.parametrize("form", ["html", "md", "csv", "json", "svg"])
def test_reports(form: str, hostile_run: RunPaths) -> None:
    from tickdsl.report import read_source, render_report

    content = render_report(form, [read_source(hostile_run), read_source(hostile_run)][: 1 + (form == "html")]).decode()
    assert_harmless(content)
    if form == "html":
        assert "<b>\\" not in content


def test_what_a_crashed_engine_printed(hostile_run: RunPaths, capsys: pytest.CaptureFixture[str]) -> None:
    hostile_run.events.write_bytes(b"")
    hostile_run.engine.write_text("localhost~0~1\n")
    hostile_run.log.write_text(HOSTILE, "utf-8", "surrogatepass")
    from tickdsl.records.process import Process, boot_id, host_name

    hostile_run.engine.write_text(Process(host_name(), boot_id(), 2**30).token)
    assert_harmless(output(capsys, "watch", "--plain"))


def test_events_are_printable_when_they_are_made(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    hostile_events(run)
    events: list[Event] = [record.event for record in read_events(run.events)]
    assert sum(r"\x1b]52" in text for event in events for text in texts_in(event)) > 100
    assert not [text for event in events for text in texts_in(event, unprintable=True)]
    with EventWriter(tmp_path / "again.jsonl") as writer:
        for event in events:
            writer.write(event)
    assert [record.event for record in read_events(tmp_path / "again.jsonl")] == events


def test_the_monitor(hostile_run: RunPaths) -> None:
    from tickdsl.cli.monitor import read_plan_text

    hostile_run.log.write_text(HOSTILE, "utf-8", "surrogatepass")
    app = Monitor(
        StubSource(list(read_events(hostile_run.events))),
        folder=hostile_run.folder,
        plan_text=printable(HOSTILE) + "\n" + (read_plan_text(hostile_run) or ""),
    )

    async def look() -> None:
        async with app.run_test(size=(200, 50)) as pilot:
            await wait_until_drawn(app, pilot)
            shown = ""
            for key in [str(number + 1) for number in range(len(VIEWS))]:
                await pilot.press(key)
                await pilot.pause()
                for strip in app.screen._compositor.render_strips():
                    for segment in strip:
                        assert segment.control or printable(segment.text) == segment.text
                        # Tabs and keys can be clicked; no text of others can add to that.
                        click = segment.style.meta.get("@click") if segment.style is not None else None
                        assert click is None or re.fullmatch(r"app\.(view|press)\('\S+'\)", click)
                        shown += segment.text
            assert r"\x1b]52" in shown

    asyncio.run(look())


def test_the_language_server(plan: Path) -> None:
    pytest.importorskip("pygls")
    from pygls.workspace import PositionCodec

    from tickdsl.lsp.buffers import Buffers
    from tickdsl.lsp.diagnostics import collect_diagnostics

    (plan.parent / "b\x1b]52.plan").write_text("prune\n")
    text = plan.read_text("utf-8") + 'include "b\x1b]52.plan"\n'
    buffers = Buffers({plan.with_name("a.plan").as_uri(): text}, PositionCodec())
    messages = [
        part
        for shown in collect_diagnostics(buffers).values()
        for diagnostic in shown
        for part in (diagnostic.message, *(info.message for info in diagnostic.related_information or ()))
    ]
    assert messages
    for message in messages:
        assert_harmless(message, shown=False)
    assert_harmless("".join(messages))
