"""Every code has a plan that causes it, at the position given in the plan's first line."""

import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tickdsl.checks import check_file
from tickdsl.lang.findings.diagnostic_codes import CODES
from tickdsl.lang.findings.diagnostics import Diagnostic, Label
from tickdsl.lang.findings.render import FORMATS, render
from tickdsl.lang.syntax import Span

INVALID = Path(__file__).parents[1] / "invalid"
PLANS = sorted(INVALID.glob("*.plan"))
#: Codes caused by a command-line flag, not by a plan.
BY_FLAG = {"TD115"}
#: The code for errors of tickdsl itself.
BY_BUG = {"TD017"}
#: Codes caused by the code of a plug-in; see tests/extending.
BY_PLUGIN = {"TD424", "TD478", "TD479"}
#: Codes caused by packages that are not installed; see tests/training/models/test_library_models.py.
BY_ENVIRONMENT = {"TD483"}
#: Codes caused by a ticket; see test_ticket_start.py.
BY_TICKET = {"TD526", "TD527", "TD528", "TD529"}
#: Codes caused by a stored run; see tests/engine/test_masks_of_runs.py.
BY_RUN = {"TD466", "TD481", "TD482"}


def expected(path: Path) -> str:
    return path.read_text("utf-8").splitlines()[0].removeprefix("# expect: ")


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_the_finding_is_at_the_expected_position(path: Path) -> None:
    report = check_file(path)
    found = [f"{d.code} {d.span.line}:{d.span.column}" for d in report.diagnostics]
    assert expected(path) in found


@pytest.mark.parametrize("path", PLANS, ids=lambda p: p.stem)
def test_there_are_no_other_errors(path: Path) -> None:
    code = expected(path).split()[0]
    others = [d for d in check_file(path).diagnostics if d.severity == "error" and d.code != code]
    assert others == []


def test_every_code_has_a_plan() -> None:
    assert {
        expected(path).split()[0] for path in PLANS
    } | BY_FLAG | BY_BUG | BY_PLUGIN | BY_ENVIRONMENT | BY_TICKET | BY_RUN == set(CODES)


def without_folder(diagnostic: Diagnostic) -> Diagnostic:
    """The diagnostic as if the plans were in the working folder: where lines are wrapped depends on their paths."""

    def short(text: str) -> str:
        return text.replace(f"{INVALID}{os.sep}", "")

    def here(span: Span) -> Span:
        return attrs.evolve(span, source=attrs.evolve(span.source, path=short(span.source.path)))

    return attrs.evolve(
        diagnostic,
        message=short(diagnostic.message),
        span=here(diagnostic.span),
        label=short(diagnostic.label),
        secondary=tuple(Label(here(label.span), short(label.text)) for label in diagnostic.secondary),
        notes=tuple(map(short, diagnostic.notes)),
        help=None if diagnostic.help is None else short(diagnostic.help),
    )


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "sarif"])
def test_renderings_match_the_golden_files(form: str) -> None:
    """Regenerate with `TICKDSL_GOLDEN=write pytest tests/checks`, and read the diff."""
    parts = []
    for path in PLANS:
        diagnostics = [d for d in check_file(path).diagnostics if d.code == expected(path).split()[0]]
        parts.append(f"## {path.name}\n" + render(map(without_folder, diagnostics), form))
    text = "\n".join(parts) + "\n"
    golden = INVALID / f"golden.{form}.txt"
    if os.environ.get("TICKDSL_GOLDEN") == "write":
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


def test_a_flag_that_names_nothing() -> None:
    (error,) = [d for d in check_file(PLANS[0], {"nothing": "1"}).diagnostics if d.code == "TD115"]
    assert (error.span.source.path, error.span.text) == ("--set", "--set nothing=1")


def test_a_language_error_loads_no_torch() -> None:
    code = (
        "import sys; from tickdsl.cli import main; "
        f"code = main(['check', {str(INVALID / 'TD101-unknown-model.plan')!r}]); "
        "assert code == 1 and 'torch' not in sys.modules and 'networkx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
