"""Reports in every format, for finished, failed and unfinished runs.

`TICKDSL_GOLDEN=write pytest tests/report` rewrites the golden files.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import html5lib
import pytest
from written_runs import PLAN, write_run

from tickdsl.cli import main
from tickdsl.errors import TickdslError
from tickdsl.records import RunPaths, read_events
from tickdsl.report import FORMATS, read_source, render_report, write_report
from tickdsl.report.answers import answers
from tickdsl.report.html import with_code
from tickdsl.report.outcomes import _no_winner
from tickdsl.results.conclusions import open_rounds
from tickdsl.results.standings import Standing
from tickdsl.results.state_builder import build_state

GOLDEN = Path(__file__).parent / "golden"


@functools.cache
def page(*runs: RunPaths) -> str:
    """The report as HTML; a run that has ended is rendered once."""
    return render_report("html", [read_source(run) for run in runs]).decode()


def text(*runs: RunPaths) -> str:
    return render_report("md", [read_source(run) for run in runs]).decode()


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TICKDSL_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def every_kind(out: Path) -> dict[str, list[RunPaths]]:
    return {
        "finished": [write_run(out)],
        "one arm": [write_run(out, arms=1)],
        "one seed": [write_run(out, seeds=(1,))],
        "no controls": [write_run(out, controls=())],
        "hundreds of arms": [write_run(out, arms=200, levels=2, controls=())],
        "failed": [write_run(out, end="failed")],
        "stopped": [write_run(out, end="stopped", until=60)],
        "killed": [write_run(out, until=60)],
        "started": [write_run(out, until=1)],
        "resolved": [write_run(out, until=2)],
        "dense alone": [write_run(out, until=8)],
        "without a plan": [write_run(out, text=None)],
        "two": [write_run(out), write_run(out, plan="later", text=PLAN.replace("30%", "20%"), seeds=(1, 2))],
        "twice the same plan": [write_run(out), write_run(out)],
    }


KINDS = [
    "finished",
    "one arm",
    "one seed",
    "no controls",
    pytest.param("hundreds of arms", marks=pytest.mark.slow),
    "failed",
    "stopped",
    "killed",
    "started",
    "resolved",
    "dense alone",
    "without a plan",
    "two",
    "twice the same plan",
]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[RunPaths]]:
    runs_by_kind = every_kind(tmp_path_factory.mktemp("runs"))
    assert list(runs_by_kind) == KIND_NAMES
    return runs_by_kind


KIND_NAMES = [kind if isinstance(kind, str) else kind.values[0] for kind in KINDS]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_valid_and_needs_nothing_else(kinds: dict[str, list[RunPaths]], kind: str) -> None:
    content = page(*kinds[kind])
    html5lib.HTMLParser(strict=True).parse(content)  # raises on the first error
    addresses = re.findall(r"""(?:src|href|action|data|poster)\s*=\s*["']([^"'#][^"']*)""", content)
    assert set(addresses) <= {"data:,"}
    assert "http" not in content.replace("http://www.w3.org/2000/svg", "")
    assert "url(" not in content.replace("url(#", "") and "@import" not in content and "<script" not in content
    arms = sum(len(read_source(run).state.arms) for run in kinds[kind])
    assert len(content) < 190_000 + 4_000 * arms
    ids = re.findall(r'\bid="([^"]+)"', content)
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'aria-labelledby="([^"]+)"', content):
        assert set(reference.split()) <= set(ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', content)) <= set(ids)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_headings_are_in_order_and_tables_have_headers(kinds: dict[str, list[RunPaths]], kind: str) -> None:
    tree = html5lib.parse(page(*kinds[kind]), namespaceHTMLElements=False)
    levels = [int(element.tag[1]) for element in tree.iter() if element.tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for table in tree.iter("table"):
        assert table.find("caption") is not None
        assert all(cell.get("scope") == "col" for cell in table.find("thead").iter("th"))
        assert all(row[0].tag == "th" and row[0].get("scope") == "row" for row in table.find("tbody"))
        widths = {sum(int(cell.get("colspan", 1)) for cell in row) for row in table.iter("tr")}
        assert len(widths) == 1
    for svg in (element for element in tree.iter() if element.tag.endswith("svg")):
        assert svg.get("aria-hidden") == "true" or svg.get("role") == "img"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [form for form in FORMATS if form != "html"])
def test_every_form_of_every_run(kinds: dict[str, list[RunPaths]], kind: str, form: str) -> None:
    sources = [read_source(run) for run in kinds[kind]]
    if form in ("pdf", "svg", "png") and kind in ("started", "resolved", "dense alone"):
        with pytest.raises(TickdslError, match="no measurements to plot"):
            render_report(form, sources)
        return
    content = render_report(form, sources)
    match form:
        case "svg":
            assert ElementTree.fromstring(content).tag.endswith("svg")
        case "png":
            assert content.startswith(b"\x89PNG")
        case "pdf":
            assert content.startswith(b"%PDF")
        case "json":
            data = json.loads(content)
            assert len(data["runs"]) == 2 if len(sources) > 1 else data["run"] == sources[0].name
        case "csv":
            rows = list(csv.DictReader(io.StringIO(content.decode())))
            assert len(rows) == sum(len(source.state.metrics) for source in sources)
        case "md":
            assert content.decode().startswith("# ")


def test_markdown_matches_its_golden_file(tmp_path: Path) -> None:
    compare("finished.md", _dateless(text(write_run(tmp_path))))


def test_several_runs_match_their_golden_file(tmp_path: Path) -> None:
    later = write_run(tmp_path, plan="later", text=PLAN.replace("30%", "20%"), seeds=(1, 2), arms=1)
    first = write_run(tmp_path, arms=1)
    compare("several.md", _dateless(text(first, later)))


def _dateless(text: str) -> str:
    """Replace the date and time in run names."""
    return re.sub(r"-\d{8}-\d{6}-", "-DATE-TIME-", text)


def test_the_answer_comes_first(tmp_path: Path) -> None:
    content = page(write_run(tmp_path))
    lead = content[content.index('class="lead"') : content.index("<main>")]
    assert "Both arms have a winning ticket" in lead
    assert content.index('class="lead"') < content.index("<svg") < content.index("<table") < content.index("<code>")
    names = ("answer", "comparison", "plan", "accuracy", "layers", "cost", "steps", "seeds", "environment", "notes")
    order = [content.index(f'<h2 id="{name}"') for name in names]
    assert order == sorted(order)


def test_the_plan_is_folded_without_old_outcomes(tmp_path: Path) -> None:
    text = PLAN.replace("model", "# Outcome: yes, by far.\n#          In 3 of 4 rounds.\n# Note: small.\nmodel", 1)
    content = page(write_run(tmp_path, text=text))
    plan = content[content.index('<h2 id="plan"') :]
    assert plan.index("<details>") < plan.index("Asks")
    assert "Outcome" not in content and "In 3 of 4" not in content
    assert "# Note: small." in plan


def test_several_runs_have_one_table_and_one_figure(tmp_path: Path) -> None:
    first, later = write_run(tmp_path), write_run(tmp_path, plan="later", seeds=(1, 2), arms=1, controls=())
    content = page(first, later)
    answer = content[content.index('<h2 id="answer"') : content.index('<h2 id="comparison"')]
    assert answer.count("<table>") == 1 and answer.count("<figure>") == 1
    for arm in ("colt: colt", "colt: imp", "later: colt"):
        assert f"{arm}</th>" in answer and f"{arm}</text>" in answer


def test_arms_are_compared_within_and_between_runs(tmp_path: Path) -> None:
    content = text(write_run(tmp_path))
    tables = content[content.index("## Arms against each other") : content.index("## Plan")]
    assert tables.count("\n### ") == 1 and "### colt against imp" in tables
    assert "| 3 | 3 | 34.3% | 34.3% | +3.94 ± 0.60 | ahead |" in tables
    both = text(write_run(tmp_path), write_run(tmp_path, plan="later", levels=4))
    for pair in ("colt: colt against imp", "colt: imp against later: colt", "colt: imp against later: imp"):
        assert f"### {pair}\n" in both
    assert "Not matched: round 4 of later: imp." in both
    assert "more pairs of arms are compared below." in both
    apart = text(write_run(tmp_path), write_run(tmp_path, plan="later", seeds=(1, 2)))
    assert "not compared with each other: their seeds are 1, 2, 3 and 1, 2." in apart


def test_answers_leave_room_for_the_figure(tmp_path: Path) -> None:
    runs = [read_source(write_run(tmp_path, plan=f"plan{number}", levels=1)) for number in range(5)]
    assert len(answers(runs[:1])) == 2
    assert answers(runs[:2])[3] == "5 more pairs of arms are compared below."
    assert answers(runs[:3])[3] == "15 pairs of arms are compared below."
    assert answers(runs[:4])[3] == "The table below has 1 more run; 28 pairs of arms are compared below it."
    for count in range(1, 6):
        assert len(answers(runs[:count])) <= 4


def test_the_headline_counts_as_the_sentences_of_the_arms_do() -> None:
    def standing(number: int, verdict: str | None) -> Standing:
        return Standing("a", "ticket", number, None, 0.5, None, None, verdict=verdict)

    rounds = [standing(n, verdict) for n, verdict in enumerate(["undecided", None, "losing", "losing", "undecided"], 1)]
    assert open_rounds(rounds) == "2 of 5 rounds are undecided and 1 has no verdict"
    assert _no_winner(rounds) == f"No winning ticket found: {open_rounds(rounds)}; the other 2 lose to dense."
    assert _no_winner(rounds[:3]).endswith("1 of 3 rounds is undecided and 1 has no verdict; the other loses to dense.")
    assert _no_winner(rounds[2:4]) == "No winning ticket: every round loses to dense."


def test_words_between_backticks_are_code() -> None:
    assert with_code("use `compare <x>` & `at`") == "use <code>compare &lt;x&gt;</code> &amp; <code>at</code>"
    assert with_code("a ` alone < b") == "a ` alone &lt; b"


def test_plans_of_another_kind_are_not_compared_line_by_line(tmp_path: Path) -> None:
    other = "model vgg11 on cifar10\nretrain 3ep\nseeds 5\nprune weights global 20% x 8\n"
    first = write_run(tmp_path)
    content = page(first, write_run(tmp_path, plan="later", text=other))
    assert "Plan of later (4 lines)" in content and "Changes in the plan" not in content
    alike = page(first, write_run(tmp_path, plan="alike", text=PLAN.replace("30%", "20%")))
    assert "Changes in the plan of alike" in alike


def test_names_and_messages_are_escaped(tmp_path: Path) -> None:
    content = page(write_run(tmp_path, end="failed"))
    assert "&lt;broken&gt;" in content and "<broken>" not in content
    assert "&lt;colt&gt; &amp; co." in content


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("failed", "The run failed"),
        ("stopped", "The run was stopped"),
        ("killed", "The run has presumably crashed"),
        ("started", "No measurements yet."),
        ("one seed", "one seed"),
        ("without a plan", "was not saved"),
        ("two", "prune filters 20% x 3"),
        ("twice the same plan", "has the same plan"),
        ("hundreds of arms", "194 more arms"),
        ("hundreds of arms", "Showing 6 of 200 arms"),
    ],
)
def test_the_page_reports_the_state_of_the_run(kinds: dict[str, list[RunPaths]], kind: str, expected: str) -> None:
    assert expected in page(*kinds[kind])


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(TickdslError, match="no run in"):
        read_source(RunPaths(tmp_path / "empty"))
    paths = write_run(tmp_path, until=0)
    with pytest.raises(TickdslError, match="no run has started"):
        read_source(paths)


def test_the_report_at_the_end_of_a_run(tmp_path: Path) -> None:
    paths = write_run(tmp_path)
    state = build_state(read_events(paths.events))
    assert write_report(state, paths) == paths.report
    assert paths.report.read_text() == page(paths)
    assert ElementTree.fromstring(paths.accuracy_svg.read_text()).get("role") == "img"
    early = write_run(tmp_path, until=8)
    write_report(build_state(read_events(early.events)), early)
    assert not early.accuracy_svg.exists()


def test_the_command_writes_to_the_given_path(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = write_run(Path("runs")), write_run(Path("runs"), plan="later")
    assert main(["report"]) == 0
    assert capsysbinary.readouterr().out.decode().strip() == str(second.report.resolve())
    assert main(["report", first.folder.name, "--format", "md"]) == 0
    assert capsysbinary.readouterr().out.decode() == text(first)
    assert main(["report", "colt", "later", "--format", "csv", "--to", "both.csv"]) == 0
    rows = csv.DictReader(Path("both.csv").read_text().splitlines())
    assert {row["run"] for row in rows} == {first.folder.name, second.folder.name}
    assert main(["report", "colt", "later"]) == 0
    assert "Comparison of 2 runs" in Path("report.html").read_text()
    capsysbinary.readouterr()
    options = ["--width", "84mm", "--font", "7", "--no-title", "--no-controls", "--arms", "imp", "--ylim", "90,100"]
    assert main(["report", "colt", "--to", "colt.pdf", "--figure", "pareto", "--style", "slides", *options]) == 0
    assert Path("colt.pdf").read_bytes().startswith(b"%PDF")
    assert main(["report", "colt", "--to", "page.html", "--ylim", "90,95"]) == 2
    assert b"--ylim is an option of figures, not of html" in capsysbinary.readouterr().err
    assert not Path("page.html").exists()
    assert main(["report", "colt", "--to", "colt.svg", "--arms", "nobody"]) == 2
    assert b"no arm `nobody`" in capsysbinary.readouterr().err
    assert main(["report", "nothing"]) == 2
    assert b"no run nothing" in capsysbinary.readouterr().err


@pytest.mark.parametrize(
    ("target", "cause", "remedy"),
    [
        (
            "/dev/full",
            "no space left on the disk for /dev/full",
            "free some disk space, or name another file with --to",
        ),
        ("no/such/x.html", "No such file or directory", "create the folder no/such, or name another file with --to"),
        ("/proc/x.html", "x.html", "check the permissions of /proc, or name another file with --to"),
        (".", "a directory", "name a file in ., or name another file with --to"),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_report_that_cannot_be_written_says_what_fits(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    cause: str,
    remedy: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("runs"))
    assert main(["report", "--to", target]) == 2
    error = capsys.readouterr().err
    assert cause in error and remedy in error
    assert "--store" not in error and "--out" not in error


def test_reading_a_run_loads_no_torch(tmp_path: Path) -> None:
    paths = write_run(tmp_path)
    code = "import sys; from tickdsl.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "report", str(paths.folder)]
    assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
