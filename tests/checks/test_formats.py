"""All output formats report the same findings, and unreadable files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tickdsl.checks import check_file
from tickdsl.cli import main
from tickdsl.lang.findings.diagnostic_codes import CODES
from tickdsl.lang.findings.render import FORMATS, render

INVALID = Path(__file__).parents[1] / "invalid"
PLANS = sorted(INVALID.glob("TD[015]*.plan"))


def output(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    main(["check", "--no-network", *map(str, words)])
    return capsys.readouterr().out


@pytest.mark.parametrize("path", PLANS[::4], ids=lambda p: p.stem)
def test_every_format_reports_the_same_findings(path: Path) -> None:
    diagnostics = check_file(path, network=False).diagnostics
    expected = [(d.code, d.span.line, d.span.column) for d in diagnostics]
    concise = re.findall(r":(\d+):(\d+): \w+\[(TD\d+)\]", render(diagnostics, "concise"))
    assert [(code, int(line), int(column)) for line, column, code in concise] == expected
    assert [(d["code"], d["line"], d["column"]) for d in json.loads(render(diagnostics, "json"))] == expected
    github = re.findall(r"line=(\d+),col=(\d+),.*title=(TD\d+)", render(diagnostics, "github"))
    assert [(code, int(line), int(column)) for line, column, code in github] == expected
    # Behind the location of a note the line is cut where the path is long.
    full = re.findall(r"^(?:.*:\d+:\d+:\s+)?\w+\[(TD\d+)\]", render(diagnostics, "full"), re.MULTILINE)
    assert full == [d.code for d in sorted(diagnostics, key=lambda d: d.severity == "note")]
    results = json.loads(render(diagnostics, "sarif"))["runs"][0]["results"]
    regions = [result["locations"][0]["physicalLocation"]["region"] for result in results]
    places = [(region["startLine"], region["startColumn"]) for region in regions]
    assert [(result["ruleId"], *place) for result, place in zip(results, places, strict=True)] == expected


def conforms(log: dict[str, Any]) -> None:
    """Assert what the SARIF 2.1.0 schema requires of the parts that tickdsl writes."""
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    assert set(log) == {"$schema", "version", "runs"}
    for run in log["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"] and set(driver) == {"name", "version", "informationUri", "rules"}
        rules = driver["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for rule in rules:
            assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
            assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["name"])
            assert rule["shortDescription"]["text"] and rule["help"]["text"]
        assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
        (invocation,) = run["invocations"]
        assert isinstance(invocation["executionSuccessful"], bool)
        for notification in invocation["toolExecutionNotifications"]:
            assert notification["message"]["text"] and notification["level"] == "error"
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            assert result["level"] in ("none", "note", "warning", "error")
            assert result["message"]["text"]
            locations = [*result["locations"], *result.get("relatedLocations", ())]
            assert result["locations"]
            for location in locations:
                physical = location["physicalLocation"]
                region = physical["region"]
                assert not re.search(r"[\s\\]", physical["artifactLocation"]["uri"])
                assert all(isinstance(number, int) and number >= 1 for number in region.values())
                assert (region["startLine"], region["startColumn"]) <= (region["endLine"], region["endColumn"])
            ids = [location["id"] for location in result.get("relatedLocations", ())]
            assert len(set(ids)) == len(ids)


def test_sarif_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    log = json.loads(output(capsys, *PLANS, INVALID / "nowhere.plan", "--format", "sarif"))
    conforms(log)
    (run,) = log["runs"]
    assert not run["invocations"][0]["executionSuccessful"]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} <= set(CODES)
    first = unquote(run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
    assert first == PLANS[0].as_uri()


def test_sarif_without_findings_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "clean.plan"
    plan.write_text(
        "seeds 3\nmodel small-cnn on digits\ntrain 2ep lr=0.1 batch=64 momentum=0.9\n"
        "prune weights local 20% by l1; rewind lr\n"
    )
    log = json.loads(output(capsys, plan, "--format", "sarif"))
    conforms(log)
    assert log["runs"][0]["results"] == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_not_there(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.plan").write_text("prune\n")
    assert main(["check", str(tmp_path / "no.plan"), str(tmp_path / "broken.plan"), "--format", form]) == 2
    said = capsys.readouterr()
    assert "no.plan: no such file" in said.err
    assert "TD001" in said.out, "the other file is still checked"
    if form == "json":
        (missing,) = [d for d in json.loads(said.out) if d["code"] is None]
        assert missing["path"].endswith("no.plan") and missing["line"] is None
    elif form == "sarif":
        (run,) = json.loads(said.out)["runs"]
        assert "no such file" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    elif form == "github":
        assert re.search(r"^::error file=.*no\.plan,title=unreadable::", said.out, re.MULTILINE)


def test_json_findings_have_one_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.plan").write_text("prune\n")
    findings = json.loads(output(capsys, tmp_path / "no.plan", tmp_path / "broken.plan", "--format", "json"))
    assert len({tuple(sorted(d)) for d in findings}) == 1
