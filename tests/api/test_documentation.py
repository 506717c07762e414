"""The pages about the Python interface describe all of it, and their examples run."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import tickdsl

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference" / "python.md").read_text("utf-8")
GUIDE = (DOCS / "how-to" / "analyse-results.md").read_text("utf-8")
NOTEBOOK = DOCS / "how-to" / "analyse-results.ipynb"
NAMES = [name for name in tickdsl.__all__ if name != "__version__"]


def cells(kind: str) -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text("utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_in_the_reference_and_has_a_docstring(name: str) -> None:
    assert re.search(rf"^::: ({re.escape(tickdsl._MODULES[name])}|tickdsl)\.{name}$", REFERENCE, re.MULTILINE)
    value = getattr(tickdsl, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("tickdsl.api"):
        members = {key: member for key, member in vars(value).items() if not key.startswith("_")}
        described = {key for key, member in members.items() if inspect.getdoc(member)}
        attributes = set(re.findall(r"^ +(\w+):", inspect.getdoc(value) or "", re.MULTILINE))
        slots = {key for key, member in members.items() if inspect.ismemberdescriptor(member)}
        assert set(members) - described - attributes - slots == set()


@pytest.mark.parametrize("name", [name for name in NAMES if inspect.isfunction(getattr(tickdsl, name))])
def test_every_argument_is_typed_and_described(name: str) -> None:
    function = getattr(tickdsl, name)
    signature = inspect.signature(function)
    words = set(re.findall(r"\w+", inspect.getdoc(function) or ""))
    assert set(signature.parameters) - words == set()
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty


def test_the_guide_shows_the_code_of_the_notebook() -> None:
    code = "\n".join("".join(cell["source"]) for cell in cells("code"))
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert len(blocks) >= 8
    assert [block for block in blocks if block.strip() not in code] == []


def test_the_notebook_has_its_output_and_no_traces_of_a_machine() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert "<progress" in text and "<table" in text
    assert not re.search(r"/(home|work|tmp|root)/", text)
    assert all(
        cell["outputs"] or "".join(cell["source"]).startswith(("import tickdsl", "earlier")) for cell in cells("code")
    )


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    html = "".join(output["data"].get("text/html", "") for output in outputs if "data" in output)
    assert "<progress" in html and "Rounds of ticket[scope=local]" in html
    assert (tmp_path / "ticket.safetensors").exists()
    assert list(tmp_path.glob("runs/*/report.html"))
