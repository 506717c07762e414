"""A report says which arms have the mask of another seed, how it was aligned, and that their seeds depend on it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from linked_run import TAKEN, write_linked_run

from tickdsl.plan.steps import OPERATIONS
from tickdsl.records import RunPaths
from tickdsl.report import read_source, render_report
from tickdsl.report.step_graph import _chip
from tickdsl.results.export import results_dict


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return write_linked_run(tmp_path)


def sections(text: str) -> dict[str, str]:
    """The sections of a report in Markdown, by title; the top of the page is ``."""
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def markdown(paths: RunPaths) -> str:
    return render_report("md", [read_source(paths)]).decode()


def test_the_verdict_on_an_arm_says_whose_masks_its_seeds_have(paths: RunPaths) -> None:
    answer = sections(markdown(paths))["Answer"]
    verdicts = dict(re.findall(r"^- ([\w-]+): (.*)$", answer, flags=re.MULTILINE))
    assert verdicts.keys() == {"own", *TAKEN}
    for arm, taken in TAKEN.items():
        assert verdicts[arm].endswith(f"; the seeds are not independent: each {taken}")
    assert "independent" not in verdicts["own"]


def test_below_the_comparison_of_arms_it_is_said_again(paths: RunPaths) -> None:
    lines = sections(markdown(paths))["Arms against each other"].rstrip().split("\n\n")
    assert lines[-3:] == [f"{arm}: the seeds are not independent: each {taken}." for arm, taken in TAKEN.items()]


def test_with_two_runs_the_sentences_start_with_the_name_of_the_run(tmp_path: Path) -> None:
    sources = [read_source(write_linked_run(tmp_path, name)) for name in ("ab", "ba")]
    text = sections(render_report("md", sources).decode())["Arms against each other"]
    found = re.findall(r"^(.*): (.*): the seeds are not independent: each (.*)\.$", text, flags=re.MULTILINE)
    assert [(arm, taken) for _, arm, taken in found] == [*TAKEN.items()] * 2
    assert [run[0] for run, _, _ in found] == ["a"] * 3 + ["b"] * 3


def test_the_page_shows_what_the_markdown_does(paths: RunPaths) -> None:
    page = html.unescape(re.sub(r"<[^>]+>", "", render_report("html", [read_source(paths)]).decode()))
    for taken in TAKEN.values():
        assert page.count(f"the seeds are not independent: each {taken}") >= 2
        assert f"are linked: each {taken}; intervals and verdicts treat them as independent" in page


def test_results_have_the_sentences_and_the_notes(paths: RunPaths) -> None:
    results = results_dict(read_source(paths).state)
    found = {arm["name"]: arm["conclusion"] for arm in results["arms"]}
    assert {arm for arm, sentence in found.items() if "not independent" in sentence} == set(TAKEN)
    assert sum("are linked" in note for note in results["notes"]) == len(TAKEN)


def test_the_drawing_of_the_steps_names_the_aligning_ones(paths: RunPaths) -> None:
    page = render_report("html", [read_source(paths)]).decode()
    chips = re.findall(r'style="fill:[^"]*">(.)</text>', page)
    assert "a" in chips and "?" not in chips
    assert "6 align" in html.unescape(page) or page.count("3 align") == 2


def test_every_operation_has_a_mark_of_its_own_in_the_drawing() -> None:
    marks = [_chip(0, 0, operation) for operation in OPERATIONS]
    assert not [mark for mark in marks if ">?<" in mark]
    assert len(set(marks)) == len(marks)
