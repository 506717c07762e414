"""Thousands of findings on a line are capped with a count, and chains of lets and arms are read in linear time."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import pytest

from tickdsl.checks import CheckReport, check
from tickdsl.cli import main
from tickdsl.lang.findings.limit import MAX_PER_LINE, MAX_PER_PLAN
from tickdsl.lang.findings.render import FORMATS, render
from tickdsl.lang.meaning import arm_expansion
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source

PRUNE = "prune weights 20%; rewind lr"


def checked(text: str) -> CheckReport:
    return check(load_source(Source("x.plan", text)), network=False)


#: A thousand faults on one line, by what is wrong.
CROWDED = {
    "options": f"train {' '.join(f'zz{n}=1' for n in range(1000))}\n{PRUNE}",
    "arms": f"{PRUNE}\ncompare {', '.join(f'none{n}' for n in range(1000))}",
    "twice": "; ".join(["let a = 1"] * 1001) + f"\n{PRUNE} by $a",
    "clauses": f"prune weights 20% {'x 2 ' * 1001}; rewind lr",
}


@pytest.mark.parametrize("kind", CROWDED)
def test_a_crowded_line_is_capped_with_a_count(kind: str) -> None:
    report = checked(CROWDED[kind])
    per_line = Counter((d.severity, d.span.line) for d in report.diagnostics)
    assert per_line["error", max(per_line, key=per_line.__getitem__)[1]] == MAX_PER_LINE
    (more,) = [d for d in report.diagnostics if d.code == "TD018"]
    assert more.message.startswith("… and 95") and more.message.endswith("more errors on this line")
    assert report.errors >= 1000 and report.plan is None
    for form in FORMATS:
        text = render(report.diagnostics, form)
        assert "… and 95" in text
        assert len(text) < 100_000


def test_the_summary_counts_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "crowded.plan"
    plan.write_text(CROWDED["options"])
    assert main(["check", "--no-network", str(plan)]) == 1
    assert "crowded.plan: 1,000 errors" in capsys.readouterr().out
    assert main(["check", "--no-network", "--format", "json", str(plan)]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert Counter(item["name"] for item in listed) == {"unknown-option": MAX_PER_LINE, "more-findings": 1}


def test_errors_are_shown_before_warnings() -> None:
    line = "; ".join(f"let v{n} = 1" for n in range(200)) + "; seeds $nothing"
    report = checked(f"{PRUNE}\n{line}")
    assert [d.code for d in report.diagnostics if d.severity == "error"] == ["TD106"]
    assert report.warnings == 200


@pytest.mark.parametrize(("header", "arms", "line"), [("sweep size in 1..40\ntrain batch=$size\n", 1, 1), ("", 40, 5)])
def test_the_prunes_of_all_arms_are_limited(header: str, arms: int, line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_expansion, "MAX_PRUNES", 300)
    text = "".join(f"arm a{n} {{ cycle 50 {{ {PRUNE}; {PRUNE} }} }}\n" for n in range(arms))
    (error,) = [d for d in checked(header + text).diagnostics if d.severity == "error"]
    assert (error.code, error.span.line) == ("TD518", line)


def test_a_sweep_is_given_up_after_many_errors() -> None:
    report = checked(f"sweep unit in 1..4000\n{PRUNE.replace('weights', '$unit')}")
    assert sum(d.severity == "error" for d in report.diagnostics) == MAX_PER_LINE and report.errors < 200
    (rest,) = [d for d in report.diagnostics if "not checked" in d.message]
    assert rest.code == "TD018" and rest.message.startswith("the sweep values after the first 101 are not checked")


def test_an_error_of_all_values_is_one_finding() -> None:
    report = checked(f"sweep share in 1..300\nprune wieghts $share; {PRUNE} to 99ep except $share")
    assert not [d for d in report.diagnostics if d.code == "TD018"]


def test_a_plan_is_capped() -> None:
    report = checked("".join(f"let v{n} = 1\n" for n in range(1500)) + PRUNE)
    assert len(report.diagnostics) == MAX_PER_PLAN + 1 and report.warnings == 1501  # and a single seed
    assert any(d.code == "TD018" and d.message.endswith("in this plan") for d in report.diagnostics)


@pytest.mark.parametrize(
    ("text", "what"), [("; ".join(["prnue"] * 300), "file"), ("arm a {\n" + "prnue\n" * 300 + "}", "statement")]
)
def test_it_is_said_that_the_rest_is_not_read(text: str, what: str) -> None:
    (note,) = [d for d in checked(text).diagnostics if d.code == "TD018" and "not read" in d.message]
    assert f"the rest of this {what} is not read" in note.message


def test_long_lines_and_words_are_cut() -> None:
    long = "x" * 50_000
    for text in (f"train zz=1 {long}=1\n{PRUNE}", f"{long}", f"prune weights {'9' * 50_000}%", f"seeds ${long}"):
        shown = render(checked(text).diagnostics)
        assert max(map(len, shown.splitlines())) < 300 and "^" in shown
    findings = checked(f"{PRUNE}\ncompare dense{', dense' * 500}, nobody, dense{', dense' * 500}").diagnostics
    tail = render([finding for finding in findings if finding.code == "TD110"])
    line, marks = (
        next(
            (line, below)
            for line, below in zip(tail.splitlines(), tail.splitlines()[1:], strict=False)
            if "nobody" in line
        )
        if (tail := tail.partition("\n")[2])
        else ("", "")
    )
    assert line[marks.index("^") : marks.rindex("^") + 1] == "nobody"


def calls(work: Callable[[], object]) -> int:
    """The number of calls of Python functions of tickdsl, which does not depend on the machine's speed."""
    counts: Counter[CodeType] = Counter()

    def count(frame: object, event: str, argument: object) -> None:
        if event == "call":
            counts[frame.f_code] += 1  # type: ignore[attr-defined]

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return sum(number for code, number in counts.items() if "tickdsl" in code.co_filename)


def chain(length: int, end: str) -> str:
    return "".join(f"let v{n} = $v{n + 1}\n" for n in range(length)) + end


SCALED: dict[str, Callable[[int], str]] = {
    "undefined end": lambda n: chain(n, PRUNE),
    "circle": lambda n: chain(n, f"let v{n} = $v0\n{PRUNE}"),
    "used at the end": lambda n: chain(n, f"let v{n} = abc\nseeds $v0\n{PRUNE}"),
    "each used": lambda n: chain(n, f"let v{n} = fc\nprune weights 20% except {', '.join(f'$v{i}' for i in range(n))}"),
    "swept": lambda n: chain(n, f"sweep v{n} in [1, 2]\nprune layers $v0; rewind lr"),
    "arms matched": lambda n: "".join(f"arm a{i} {{ prune weights matching a{i + 1} }}\n" for i in range(n)),
    "teachers": lambda n: "".join(f"arm a{i} {{ {PRUNE}; distill from a{(i + 1) % n} }}\n" for i in range(n)),
}


@pytest.mark.parametrize("kind", SCALED)
def test_the_work_grows_linearly(kind: str) -> None:
    few, many = (calls(lambda n=n: checked(SCALED[kind](n))) for n in (30, 120))
    assert many < 5 * few
