"""The formatter: golden files, and properties that hold for every plan drawn from the grammar."""

import random
import re
from pathlib import Path

import pytest
from grammar_plans import derive_text, plans
from hypothesis import HealthCheck, assume, example, given, settings

from tickdsl import grammar
from tickdsl.checks import check_file
from tickdsl.lang.findings.diagnostics import PlanError
from tickdsl.lang.reading.parse import parse
from tickdsl.lang.syntax import File, Source
from tickdsl.lang.writing.format import WIDTH, format_source

ROOT = Path(__file__).parents[3]
LAYOUTS = Path(__file__).parent / "layouts"
COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|(#[^\n]*)')


def formatted(text: str) -> str:
    return format_source(Source("x.plan", text))


def tree(text: str) -> File:
    file, diagnostics = parse(Source("x.plan", text))
    assert diagnostics == ()
    return file


def comments(text: str) -> list[str]:
    return [match[1].rstrip() for match in COMMENT.finditer(text) if match[1]]


def silenced_tokens(text: str) -> list[list[str]]:
    """The tokens that share a line with each `# ok`."""
    lines: dict[int, list[str]] = {}
    for token in grammar.plan_parser().parse_interactive(text).iter_parse():
        word = {"_TIMES": "x", "PERCENT": "%", "SPAN": "ep"}.get(token.type, str(token))
        if token.type not in ("_SEP", "_COMMA"):
            lines.setdefault(text.count("\n", 0, token.start_pos or 0), []).append(word)
    silent = [n for n, line in enumerate(text.split("\n")) for c in comments(line) if re.match(r"#\s*ok\b", c)]
    return [lines[n] for n in silent if n in lines]


def holds(text: str) -> bool:
    """Check what formatting must preserve. Returns False if the text is not a valid plan."""
    file, diagnostics = parse(Source("x.plan", text))
    if diagnostics:
        return False
    once = formatted(text)
    assert tree(once) == file
    assert comments(once) == comments(text)
    assert silenced_tokens(once) == silenced_tokens(text)
    assert formatted(once) == once
    assert not re.search(r"[ \t]\n|\n\n\n|^\n|\{\n\n|\n\n *\}", once)
    return True


@settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))
@given(plans())
@example("arm a { prune weights 20% # ok TD310\n rewind lr } # ok TD304\n")
@example("plan 3; transfer to a a=[0.1]{;# ok TD505\n plan 3};;")
@example(f"transfer to a a=[0.1, 0.1,]{{let a=20%; {'overlap;' * 20}}}; plan 3# c\n")
def test_formatting_keeps_meaning_and_comments_and_is_idempotent(text: str) -> None:
    assume(holds(text))


@pytest.mark.slow
def test_formatting_five_thousand_plans() -> None:
    """Random plans without Hypothesis, which would be too slow for this many."""
    kept = 0
    for seed in range(5_000):
        text = derive_text(random.Random(seed).choice, size=150)
        try:
            kept += holds(text)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error
    assert kept > 2_500, "most derived texts should be valid plans"


@pytest.mark.parametrize("path", sorted(LAYOUTS.glob("*.before.plan")), ids=lambda p: p.name)
def test_golden(path: Path) -> None:
    """The expected layouts are written by hand; TICKDSL_GOLDEN=write does not apply."""
    wanted = path.with_name(path.name.replace(".before.", ".after.")).read_text("utf-8")
    assert formatted(path.read_text("utf-8")) == wanted
    assert formatted(wanted) == wanted


@pytest.mark.parametrize("path", sorted(ROOT.glob("plans/**/*.plan")), ids=lambda p: str(p.relative_to(ROOT)))
def test_shipped_plans_are_formatted(path: Path) -> None:
    text = path.read_text("utf-8")
    assert formatted(text) == text


@pytest.mark.parametrize("path", sorted((ROOT / "tests/invalid").glob("*.plan")), ids=lambda p: p.name)
def test_formatting_changes_no_diagnostic(path: Path, tmp_path: Path) -> None:
    try:
        text = formatted(path.read_text("utf-8"))
    except PlanError:
        return
    (tmp_path / path.name).write_text(text, "utf-8")
    before, after = (check_file(p, network=False).diagnostics for p in (path, tmp_path / path.name))
    if "include" not in text and not path.name.startswith("TD018"):  # which counts the findings of a line
        assert [d.code for d in after] == [d.code for d in before]


def test_lines_are_not_joined_and_long_lines_are_broken() -> None:
    names = ", ".join(f"layer{n}.conv" for n in range(20))
    text = formatted(f"prune filters 20% in {names}; rewind lr")
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.splitlines()[-1] == "rewind lr"
    assert formatted("compare a,\n\n  b") == "compare a,\n    b\n"


def test_a_line_with_a_comment_is_not_broken() -> None:
    long = "; ".join(["rewind weights to init"] * 8)
    assert formatted(f"prune weights 20%; {long} # together") == f"prune weights 20%; {long}  # together\n"


def test_newlines_follow_the_first_line() -> None:
    assert formatted("let a=1\r\nlet b=2\n# c\r\n") == "let a = 1\r\nlet b = 2\r\n# c\r\n"
    assert formatted("let a=1\nlet b=2\r\n") == "let a = 1\nlet b = 2\n"


def test_an_empty_plan_stays_empty() -> None:
    assert formatted("") == formatted(" \n;\n\t\n") == ""
    assert formatted("\n\n# only this") == "# only this\n"


def test_an_invalid_plan_raises_plan_error() -> None:
    with pytest.raises(PlanError) as error:
        formatted("prune filters 20%, rewind lr")
    assert [d.code for d in error.value.diagnostics] == ["TD013"]


@pytest.mark.parametrize(
    "path",
    [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", *sorted(ROOT.glob("tickdsl/lang/findings/codes/*.md"))],
    ids=lambda p: p.name,
)
def test_plans_in_the_docs_are_formatted(path: Path) -> None:
    """Every example that parses; pages about syntax also show plans that do not."""
    for text in re.findall(r"^```plan[^\n]*\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if parse(Source("x.plan", text))[1] == ():
            assert formatted(text) == text
