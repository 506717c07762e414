"""Every code has a page: Before causes the finding, After does not. docs/reference/codes.md contains all pages."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from named_data import write_pairs

from tickdsl.checks import CheckReport, check_file
from tickdsl.cli import main
from tickdsl.lang.findings import explain
from tickdsl.lang.findings.diagnostic_codes import CODES, GROUPS
from tickdsl.plugins import permission

ROOT = Path(__file__).parents[2]


def checked(example: explain.Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> CheckReport:
    shutil.rmtree(folder)  # with the files of another example
    folder.mkdir()
    for name, text in (("example.plan", example.plan), *example.files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(permission, "_allowed", example.allow_code)
    monkeypatch.syspath_prepend(folder)
    if 'weights="ticket.safetensors"' in example.plan:
        _write_ticket(folder, example)
    if 'path="pairs.npz"' in example.plan:
        write_pairs(folder / "pairs.npz")
    _write_runs(folder, example)
    return check_file(folder / "example.plan", dict(example.overrides))


def _write_runs(folder: Path, example: explain.Example) -> None:
    """Write the runs that an example names by their paths."""
    from stored_runs import written_run

    for name in re.findall(r'"runs/(.+?)"', example.plan):
        written_run(folder, name, arms=("a", "b") if name == "two-arms" else ("a",), stored=name != "cleaned")


def _write_ticket(folder: Path, example: explain.Example) -> None:
    """Write the ticket of an example: of its own network, with other code, or else of small-cnn."""
    from plan_tickets import plan_ticket, written

    own = re.search(r'"(\w+:\w+)"', example.plan)
    ticket = plan_ticket(own[1], code="earlier") if own is not None else plan_ticket()
    written(folder / "ticket.safetensors", ticket)


def page(code: str) -> explain.Page:
    loaded = explain.load_page(code)
    assert loaded is not None
    return loaded


#: What a fault of tickdsl causes, and what depends on what is installed.
WITHOUT_EXAMPLE = {"TD017", "TD483"}


@pytest.mark.parametrize("code", [code for code in CODES if code not in WITHOUT_EXAMPLE])
def test_before_causes_the_finding_and_after_does_not(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = page(code)
    assert shown.before is not None and shown.after is not None
    assert code in {d.code for d in checked(shown.before, tmp_path, monkeypatch).diagnostics}
    fixed = checked(shown.after, tmp_path, monkeypatch)
    assert code not in {d.code for d in fixed.diagnostics}
    assert not [d for d in fixed.diagnostics if d.severity == "error"]


@pytest.mark.parametrize("code", CODES)
def test_page_has_title_summary_and_reason(code: str) -> None:
    shown = page(code)
    assert shown.text.startswith(f"# {code} {shown.slug}\n")
    assert len(shown.what) > 15 and len(shown.why) > 15


def test_every_page_has_a_code() -> None:
    assert {path.stem for path in (ROOT / "tickdsl" / "lang" / "findings" / "codes").iterdir()} == set(CODES)
    assert explain.load_page("TD999") is None


def test_every_code_is_in_one_group() -> None:
    assert [code for _, codes in explain.grouped_codes() for code in codes] == sorted(CODES)
    assert {code[:3] for code in CODES} == set(GROUPS)


def test_codes_md_is_up_to_date() -> None:
    """Rewrite with `python -m tickdsl.lang.findings.explain > docs/reference/codes.md`."""
    assert (ROOT / "docs" / "reference" / "codes.md").read_text("utf-8") == explain.render_manual()


@pytest.mark.parametrize(
    ("word", "near"), [("TD5050", "TD505"), ("505", "TD505"), ("td 505", "TD505"), ("single-sed", "TD505")]
)
def test_unknown_code_suggests_a_similar_one(word: str, near: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 2
    assert near in capsys.readouterr().err


def test_explain_prints_a_page_by_code_and_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "td505"]) == 0
    by_code = capsys.readouterr().out
    assert main(["explain", "single-seed"]) == 0
    assert by_code == capsys.readouterr().out == page("TD505").text + "\n"
    assert main(["explain", "TD505", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "single-seed"


def test_explain_alone_lists_all_codes_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 0
    listed = capsys.readouterr().out
    assert all(code in listed for code in CODES) and all(title in listed for title in GROUPS.values())
    assert main(["explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(CODES)
