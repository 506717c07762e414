"""The claims of the papers (docs/explanation/papers/claims.toml): their plans, quotations, commands and tables."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tickdsl.cli import build_parser

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "docs" / "explanation" / "papers"
#: Plans that are no test of a paper's claim.
WITHOUT_CLAIM = {"card", "fast-cifar", "first", "searched"}


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claims", ROOT / "benchmarks" / "claims.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["claims"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


claims = _module()
ALL: list[tuple[Any, Any]] = [(paper, claim) for paper in claims.papers() for claim in paper.claims]
TESTED = [pytest.param(paper, claim, id=f"{claim.plan}: {claim.claim}") for paper, claim in ALL if claim.plan]
REWRITE = "run `python benchmarks/claims.py` after a change of claims.toml or of a plan's head"


def head(path: Path) -> str:
    lines = path.read_text("utf-8").splitlines()
    return str(claims.words(" ".join(line[1:] for line in lines if line.startswith("#"))))


def test_the_tables_are_up_to_date() -> None:
    text = claims.INDEX.read_text("utf-8")
    assert claims.with_tables(text) == text, REWRITE


@pytest.mark.parametrize(("paper", "claim"), TESTED)
def test_the_outcome_is_quoted_from_the_plans_head(paper: Any, claim: Any) -> None:
    outcome = head(claim.path).split("Outcome:")[1]
    for quotation in claim.outcome:
        assert quotation in outcome, f"change claims.toml, then {REWRITE}"
    page = claims.words((PAPERS / f"{paper.page}.md").read_text("utf-8"))
    assert f"± {claim.half_width}" in outcome + page, "the half width is in neither the head nor on the page"
    assert claim.plan in page, "the plan is not on the paper's page"


def test_a_claim_has_a_test_or_says_what_one_needs() -> None:
    for _, claim in ALL:
        assert claim.verdict in claims.VERDICTS
        tested = claim.verdict != "not tested"
        assert tested == bool(claim.plan) == bool(claim.outcome) != bool(claim.needs), claim.claim


@pytest.mark.parametrize(("paper", "claim"), TESTED)
def test_the_command_of_a_row_can_be_run(paper: Any, claim: Any) -> None:
    """The plan itself has no errors: see test_plans.py, which checks all that ship."""
    program, *arguments = shlex.split(claim.command)
    parsed = build_parser().parse_args(arguments)
    assert (program, ROOT / parsed.plan) == ("tickdsl", claim.path)
    assert claim.path.is_file()


def test_every_page_and_plan_has_a_row() -> None:
    pages = {path.stem for path in PAPERS.glob("*.md")} - {"index"}
    assert {paper.page for paper in claims.papers()} == pages
    full = [name for paper in claims.papers() for name in paper.full]
    assert sorted(full) == sorted(path.stem for path in (ROOT / "plans" / "papers").glob("*.plan"))
    small = {path.stem for path in (ROOT / "plans").glob("*.plan")}
    assert small - {claim.plan for _, claim in ALL} == WITHOUT_CLAIM


def test_the_power_is_that_of_the_quoted_interval() -> None:
    """A test of five seeds with ± 1.27 points finds 2.1 in a family of three."""
    (found,) = {claim.power for _, claim in ALL if claim.plan == "structured" and claim.half_width == "1.27"}
    assert found == pytest.approx(2.14, abs=0.01)
    assert re.search(r"\| \*\*holds\*\* \| 2\.1 points \|", claims.tables())
