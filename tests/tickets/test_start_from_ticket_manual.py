"""All that "Start a plan from a ticket" shows runs, and the plan goes on from exactly the ticket."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tickdsl.cli import main
from tickdsl.tickets.ticket_file import open_ticket

PAGE = (Path(__file__).parents[2] / "docs/how-to/start-from-a-ticket.md").read_text("utf-8")
FOUND = "model small-cnn on digits width=0.5\ntrain 2ep lr=0.1 batch=64\nprune filters 20% x 2; rewind lr\n"


@pytest.mark.slow
def test_every_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "plan", "sh", "sh", "sh"]
    Path("found.plan").write_text(FOUND)
    assert main(["run", "found.plan", "--jobs", "1", "--plain"]) == 0
    shown = {}
    for language, text in blocks:
        if language == "plan":
            Path("further.plan").write_text(text)
            continue
        for command in text.splitlines():
            capsys.readouterr()
            words = shlex.split(command)[1:] + (["--jobs", "1", "--plain"] if "run" in command.split() else [])
            assert main(words) == 0, command
            shown[words[0]] = capsys.readouterr().out
    ticket = open_ticket("half.safetensors")
    accuracy = ticket.metrics["accuracy"]
    assert f"{100 * accuracy:.2f}%" in shown["evaluate"] and "parameters" in shown["graph"]
    results = json.loads(next(Path("runs").glob("further-*/results.json")).read_text())
    (level0,) = (level for level in results["arms"][0]["levels"] if level["level"] == 0)
    seeds = level0["contestants"]["dense"]["seeds"]
    assert [seed["accuracy"] for seed in seeds] == [accuracy] * 3
    # The same plan again finds all of its results in the store.
    assert main(["run", "further.plan", "--jobs", "1", "--plain"]) == 0
    assert re.search(r"(\d+) steps \(\1 already stored\)", "".join(capsys.readouterr()).replace(",", ""))
    # Its own tickets can be exported, too.
    assert main(["export", "further", "--level", "2", "--to", "quarter.safetensors"]) == 0
    assert open_ticket("quarter.safetensors").metrics["sparsity"] > ticket.metrics["sparsity"]
