"""Every full-size plan has a page on the paper's claims, the plan, our results, and deviations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs" / "explanation" / "papers").glob("*.md") if path.name != "index.md")
FULL = sorted((ROOT / "plans" / "papers").glob("*.plan"))
INDEX = (ROOT / "docs" / "explanation" / "papers" / "index.md").read_text("utf-8")


def links(text: str) -> set[Path]:
    return {
        (ROOT / "docs" / "explanation" / "papers" / link.split("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)]+)\)", text)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_its_four_parts_and_its_plan(page: Path) -> None:
    text = page.read_text("utf-8")
    parts = [re.sub("papers claim$", "paper claims", part) for part in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert parts == ["What the paper claims", "What the plan says", "What we saw", "Where we deviate, and why"]
    assert links(text) & set(FULL)
    assert all(link.exists() for link in links(text))
    assert not re.search(r"\b[A-Z]+_[A-Z]+\b|\bTODO\b", text)


@pytest.mark.parametrize("plan", FULL, ids=lambda path: path.stem)
def test_a_plan_is_in_the_index_and_on_a_page(plan: Path) -> None:
    assert plan in links(INDEX)
    assert any(plan in links(page.read_text("utf-8")) for page in PAGES)


def test_the_index_names_pages_and_plans_that_are_there() -> None:
    assert set(PAGES) <= links(INDEX)
    assert [link for link in links(INDEX) if not link.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_command_that_a_page_gives_runs_a_plan_that_ships(page: Path) -> None:
    plans = re.findall(r"tickdsl run (plans/\S+?\.plan)", page.read_text("utf-8"))
    assert all((ROOT / plan).is_file() for plan in plans)
