"""Check, parse and format plans that are given as a path or as text."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import tickdsl
from tickdsl.checks import check_file
from tickdsl.lang.findings.render import render
from tickdsl.lang.syntax import Prune

INVALID = sorted((Path(__file__).parents[1] / "invalid").glob("TD0*.plan"))
CARD = Path(__file__).parents[2] / "plans" / "card.plan"


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_findings_are_those_of_the_command_line(path: Path) -> None:
    expected = check_file(path, network=False).diagnostics
    found = tickdsl.check(path, network=False)
    assert [(f.code, f.severity, f.message, f.help) for f in found] == [
        (d.code, d.severity, d.message, d.help) for d in expected
    ]
    assert [(f.path, f.line, f.column) for f in found] == [(str(path), d.span.line, d.span.column) for d in expected]
    assert "\n\n".join(map(str, found)) == "\n".join(render([d]) for d in expected).rstrip("\n")


def test_a_finding_can_be_printed_and_kept() -> None:
    (finding,) = tickdsl.check("data digits\ntrian 3ep", network=False)
    assert "trian 3ep" in str(finding) and "^^^^^" in str(finding)
    assert repr(finding) == "<plan:2:1: error[TD010] unknown statement `trian`>"
    assert pickle.loads(pickle.dumps(finding)) == finding


@pytest.mark.parametrize("plan", [CARD, str(CARD), CARD.read_text()], ids=["path", "string", "text"])
def test_a_plan_is_a_path_or_a_text(plan: str | Path) -> None:
    assert not [finding for finding in tickdsl.check(plan, network=False) if finding.severity == "error"]
    assert any(isinstance(statement, Prune) for statement in tickdsl.parse(plan).statements)
    assert tickdsl.format(plan) == CARD.read_text()


@pytest.mark.parametrize("plan", ["nowhere.plan", "nowhere", "a folder/nowhere.plan", Path("a b")])
def test_a_file_that_is_missing_is_no_text(plan: str | Path) -> None:
    for function in (tickdsl.check, tickdsl.parse, tickdsl.format):
        with pytest.raises(tickdsl.TickdslError, match="no such file"):
            function(plan)


def test_a_text_on_one_line_and_an_empty_one() -> None:
    assert tickdsl.format("data   digits;  prune filters 30%").rstrip() == "data digits; prune filters 30%"
    assert [finding.code for finding in tickdsl.check("")] == ["TD002"]


def test_what_does_not_parse_raises_its_findings() -> None:
    for function in (tickdsl.parse, tickdsl.format):
        with pytest.raises(tickdsl.PlanError) as caught:
            function("arm a {\n")
        assert [finding.code for finding in caught.value.findings] == ["TD003"]
        again = pickle.loads(pickle.dumps(caught.value))
        assert again.findings == caught.value.findings


def test_values_may_be_set() -> None:
    text = "let rate = 30%\nsweep n in [1, 2]\narm a { prune filters $rate x $n }\n"
    assert not [f for f in tickdsl.check(text, set={"rate": "10%", "n": [3, 4]}, network=False) if f.code == "TD115"]
    (unknown,) = [f for f in tickdsl.check(text, set={"rat": 3}, network=False) if f.code == "TD115"]
    assert unknown.help == "did you mean `rate`?"
