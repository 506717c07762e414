"""No process of tickdsl imports modules that lie in the working folder or beside a plan, however it was started."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tickdsl.cli import engine
from tickdsl.records import find_run, read_events
from tickdsl.records.events import RunEnd

PLAN = """\
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 1ep lr=0.1 batch=32
prune filters 30%; rewind weights to init
"""
PRUNE = PLAN.splitlines()[-1]
TICKDSL = Path(sys.executable).with_name("tickdsl")
#: All of Python's modules, and those of tickdsl's dependencies.
MODULES = (
    *sorted(sys.stdlib_module_names),
    *("torch", "torchvision", "numpy", "attrs", "attr", "lark", "rich", "networkx", "safetensors", "PIL", "textual"),
    *("pygls", "jinja2", "psutil", "pygments", "tensorboardX", "sitecustomize", "usercustomize", "tui", "grammar"),
)


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with a plan and a module of every name; each writes its name into `ran` when it is imported."""
    for name in MODULES:
        add_module(tmp_path, name)
    (tmp_path / "test.plan").write_text(PLAN)
    return tmp_path


def add_module(folder: Path, name: str) -> None:
    (folder / f"{name}.py").write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r} + '\\n')\n")


def imported(folder: Path) -> list[str]:
    ran = folder / "ran"
    return ran.read_text().split() if ran.exists() else []


def call(folder: Path, *command: object, code: int = 0, **environment: str) -> str:
    ran = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert imported(folder) == []
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def until_ended(folder: Path) -> None:
    """Wait for the end of the newest run, which must be good."""
    deadline = time.monotonic() + 120
    ends: list[RunEnd] = []
    while not ends:
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
        try:
            records = read_events(find_run(folder / "runs").events)
            ends = [record.event for record in records if isinstance(record.event, RunEnd)]
        except Exception:  # the run folder or its events do not exist yet
            continue
    assert ends[0].status == "ok", ends[0]


@pytest.mark.parametrize("module", ["tickdsl", pytest.param("tickdsl.cli", marks=pytest.mark.slow)])
def test_as_a_module(hostile: Path, module: str) -> None:
    call(hostile, sys.executable, "-m", module, "check", "test.plan", "--no-network")


@pytest.mark.slow
def test_in_an_editor(hostile: Path) -> None:
    pytest.importorskip("pygls")
    call(hostile, sys.executable, "-m", "tickdsl", "lsp", code=1)
    call(hostile, TICKDSL, "lsp", code=1)


@pytest.mark.slow
def test_with_workers(hostile: Path) -> None:
    add_module(hostile, "tickdsl")
    call(hostile, TICKDSL, "run", "test.plan", "--jobs", 2, "--plain")


@pytest.mark.slow
@pytest.mark.parametrize("start", [(TICKDSL,), (sys.executable, "-m", "tickdsl")], ids=["script", "module"])
def test_in_one_process(hostile: Path, start: tuple[object, ...]) -> None:
    call(hostile, *start, "run", "test.plan", "--jobs", 1, "--plain")


@pytest.mark.slow
def test_in_the_background(hostile: Path) -> None:
    add_module(hostile, "tickdsl")
    call(hostile, TICKDSL, "run", "test.plan", "--jobs", 2, "--detach")
    until_ended(hostile)
    assert imported(hostile) == []


@pytest.mark.slow
def test_in_the_monitor(hostile: Path) -> None:
    add_module(hostile, "tickdsl")
    terminal, keyboard = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS", "LINES")}
    monitor = subprocess.Popen(
        [TICKDSL, "run", "test.plan", "--tui", "--jobs", "2"],
        cwd=hostile, stdin=keyboard, stdout=keyboard, stderr=keyboard,
        env={**environment, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "COLUMNS": "100", "LINES": "40"},
    )  # fmt: skip
    os.close(keyboard)
    os.set_blocking(terminal, False)
    try:
        until_ended(hostile)
        deadline = time.monotonic() + 60
        while monitor.poll() is None and time.monotonic() < deadline:
            try:
                os.write(terminal, b"q")
                os.read(terminal, 1 << 16)
            except OSError:  # nothing to read, or closed
                pass
            time.sleep(0.1)
        assert monitor.returncode == 0
    finally:
        monitor.kill()
        monitor.wait()
        os.close(terminal)
    assert imported(hostile) == []


def test_what_the_user_asks_for_is_imported(tmp_path: Path) -> None:
    """PYTHONPATH counts, also in other processes, and quoted names are found in the working folder."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "extra_models.py").write_text("def net(classes, shape): ...\n")
    (tmp_path / "beside.py").write_text("def net(classes, shape): ...\n")
    command = (*engine.TICKDSL, "check", "test.plan", "--allow-code", "--no-network")
    for name in ("extra_models", "beside"):
        (tmp_path / "test.plan").write_text(f'model "{name}:net"\ndata digits\ntrain 1ep lr=0.1\n{PRUNE}')
        call(tmp_path, *command, PYTHONPATH=str(tmp_path / "mine"))


SCRIPT = """\
from pathlib import Path
import beside_the_script
from tickdsl.checks import check_file
from tickdsl.engine.launch import LaunchOptions, launch
plan = Path("test.plan")
options = LaunchOptions(jobs=2, device="cpu")
run = launch(check_file(plan).require_plan(), plan.read_text(), options, lambda record: None)
print("exit", run.exit)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_can_launch_a_run_with_workers(tmp_path: Path) -> None:
    """Each worker would run the script again, and start workers of its own."""
    (tmp_path / "test.plan").write_text(PLAN)
    (tmp_path / "beside_the_script.py").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT)
    assert call(tmp_path, sys.executable, "script.py") == "exit 0\n"
