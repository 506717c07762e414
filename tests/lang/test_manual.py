"""All examples of the manual and the tutorial: valid ones pass, wrong ones have the expected finding."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from tickdsl.checks import check_file
from tickdsl.cli import main
from tickdsl.lang import option_schemas, vocabulary
from tickdsl.lang.findings.diagnostic_codes import CODES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("reference/language.md", "tutorial/first-study.md", "how-to/prune-to-a-budget.md")
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Shown:
    """A fenced block: `plan`, `plan wrong CODE`, `plan NAME.plan` (a file)."""

    words: tuple[str, ...]
    text: str
    line: int

    @property
    def kind(self) -> str:
        return " ".join(self.words[1:])


def shown(name: str) -> list[Shown]:
    text = (DOCS / name).read_text("utf-8")
    found = _BLOCK.finditer(text)
    return [Shown(tuple(m[1].split()), m[2], text.count("\n", 0, m.start()) + 1) for m in found]


def plans(name: str) -> list[Shown]:
    return [block for block in shown(name) if block.words[:1] == ("plan",) and not block.kind.endswith(".plan")]


def write(name: str, block: Shown, folder: Path) -> Path:
    """Write the block to a file, along with the files that the page shows."""
    for other in shown(name):
        if other.kind.endswith(".plan"):
            (folder / other.kind).write_text(other.text, "utf-8")
    path = folder / "example.plan"
    path.write_text(block.text, "utf-8")
    return path


def cases(name: str) -> list[pytest.ParameterSet]:  # type: ignore[name-defined]
    return [pytest.param(name, block, id=f"{name}:{block.line}") for block in plans(name)]


@pytest.mark.parametrize(("name", "block"), [case for page in PAGES for case in cases(page)])
def test_an_example_has_the_expected_findings(name: str, block: Shown, tmp_path: Path) -> None:
    diagnostics = check_file(write(name, block, tmp_path)).diagnostics
    errors = {d.code for d in diagnostics if d.severity == "error"}
    if block.kind:
        assert block.words[1] == "wrong"
        assert block.words[2] in {d.code for d in diagnostics}
    else:
        assert errors == set()


def test_every_statement_has_a_section_with_an_example() -> None:
    text = (DOCS / "reference/language.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(vocabulary.STATEMENTS)
    for word, section in sections.items():
        assert re.search(r"^```plan$", section, re.MULTILINE), f"{word} has no example"
        examples = [m[2] for m in _BLOCK.finditer(section) if m[1].split()[:1] == ["plan"]]
        assert any(re.search(rf"\b{word}\b", example) for example in examples)


def test_every_code_that_the_manual_names_exists() -> None:
    for name in ("reference/language.md", "tutorial/first-study.md"):
        assert set(re.findall(r"\bTD\d{3}\b", (DOCS / name).read_text("utf-8"))) <= set(CODES)


def test_every_option_of_a_training_is_in_the_manual() -> None:
    text = (DOCS / "reference/language.md").read_text("utf-8")
    form = re.search(r"### train\n+```text\n(.*?)```", text, re.DOTALL)
    assert form is not None
    assert [name for name in option_schemas.TRAIN_OPTIONS if f"[{name}=" not in form[1]] == []


STEPS = [block for block in plans("tutorial/first-study.md") if not block.kind]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all steps of the tutorial, so that later steps reuse trained networks."""
    return tmp_path_factory.mktemp("tutorial")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS, ids=[f"step {number}" for number in range(1, len(STEPS) + 1)])
def test_the_steps_of_the_tutorial_run(step: Shown, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(reader)
    path = write("tutorial/first-study.md", step, reader)
    assert main(["run", str(path), "--jobs", "1", "--device", "cpu", "--plain"]) == 0
