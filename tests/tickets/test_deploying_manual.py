"""All that "Deploy a ticket" shows runs: commands here, and code where it is to run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bare_environments import bare_environment
from exported_tickets import own_ticket
from PIL import Image

from tickdsl.cli import main
from tickdsl.tickets.export_format import ExportOptions, Subject, TestInputs
from tickdsl.tickets.formats.onnx import OPSET
from tickdsl.tickets.formats.pt2 import read_pt2_metadata, write_pt2
from tickdsl.training.data.datasets import load

PAGE = (Path(__file__).parents[2] / "docs/how-to/deploy-a-ticket.md").read_text("utf-8")
PLAN = """\
model small-cnn width=0.5
data digits
train 3ep lr=0.1 batch=64
prune filters 40%; rewind lr
"""
#: The distributions that the code of a section may use; in the others, it runs with tickdsl.
LIBRARIES = {
    "A server": ("onnxruntime", "pillow"),
    "torch alone": ("torch",),
    "Plain weights": ("torch", "safetensors"),
}


def sections() -> dict[str, list[tuple[str, str]]]:
    """The fenced blocks of the page, by section: language and text."""
    parts = re.split(r"^## (.+)$", f"## Start\n{PAGE}", flags=re.MULTILINE)[1:]
    block = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return {title: block.findall(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.slow
def test_every_command_and_every_snippet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.plan").write_text(PLAN)
    assert main(["run", "card.plan", "--jobs", "1", "--plain"]) == 0
    data = load("digits")
    Image.fromarray(data.test_inputs[0, 0].numpy()).save("digit.png")
    answers = {}
    for title, blocks in sections().items():
        libraries = LIBRARIES.get(title)
        python = bare_environment(tmp_path / title, *libraries) if libraries else Path(sys.executable)
        for language, text in blocks:
            if language == "sh":
                for command in text.splitlines():
                    run_command(command)
                continue
            assert language == "python"
            capsys.readouterr()
            shown = subprocess.run([python, "-c", text], capture_output=True, text=True, check=False)
            assert shown.returncode == 0, shown.stderr
            answers[title] = shown.stdout
    assert answers.keys() == {"A notebook", *LIBRARIES}
    # The ticket and the ONNX file see the same image, and give the same answer.
    digit, accuracy = answers["A notebook"].split()
    assert answers["A server"].split() == [digit]
    assert digit in data.class_names
    assert float(accuracy) > 0.5
    for title in ("torch alone", "Plain weights"):
        assert len(re.findall(r"'\d'", answers[title])) == 7
    assert (tmp_path / "phone" / "card-int8.ort").is_file()


def run_command(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "tickdsl":
        assert main(words[1:]) == 0, command
    else:
        assert words[0] == "python"
        subprocess.run([sys.executable, *words[1:]], capture_output=True, check=True)


def test_the_page_names_every_key_and_the_opset(tmp_path: Path) -> None:
    ticket, network = own_ticket("residual")
    subject = Subject(ticket=ticket, network=network, test=TestInputs(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)))
    write_pt2(subject, tmp_path / "ticket.pt2", ExportOptions())
    section = PAGE.partition("## What a file says about itself")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert named == {*read_pt2_metadata(tmp_path / "ticket.pt2"), "interval", "outputs", "part", "weights"}
    assert f"ONNX opset {OPSET}" in PAGE
