"""`benchmarks/by_hand.py` is the arm `imp` of plans/colt.plan: same settings, same rounds, as many lines as we say."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
import tokenize
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from tickdsl.checks import check_file
from tickdsl.moments import Moment
from tickdsl.plan.model import Arm, Share

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "by_hand.py"


@pytest.fixture(scope="module")
def by_hand() -> ModuleType:
    spec = importlib.util.spec_from_file_location("by_hand", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def imp() -> Arm:
    plan = check_file(ROOT / "plans" / "colt.plan").require_plan()
    (arm,) = (arm for arm in plan.arms if arm.name == "imp")
    return arm


def test_it_trains_and_prunes_as_the_plan_does(by_hand: ModuleType, imp: Arm) -> None:
    assert (imp.model.name, imp.data.name) == ("lenet-300-100", "mnist-small")
    assert imp.recipe == {
        "length": f"{by_hand.EPOCHS}ep",
        "optimizer": "adam",
        "lr": by_hand.LR,
        "batch": by_hand.BATCH,
        "decay": by_hand.DECAY,
        "schedule": "milestones",
        "milestones": [f"{100 * share:g}%" for share in by_hand.MILESTONES],
        "gamma": by_hand.GAMMA,
    }
    (rounds,) = imp.rounds
    prune = rounds.prune
    assert (prune.scope, prune.by, prune.until, prune.protect) == (
        "global", "magnitude", Fraction(str(by_hand.UNTIL)), ("fc3",),
    )  # fmt: skip
    assert prune.amount == Share(Fraction(str(by_hand.SHARE)), "remaining")
    assert [(step.what, step.to) for step in rounds.tail] == [("weights", Moment(Fraction(0), "it"))]


def test_its_tickets_get_as_small(
    by_hand: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On few images; a round halves the weights until 96% are gone, as TD903 forecasts for the plan."""
    images, labels, test_images, test_labels = by_hand.load()
    monkeypatch.setattr(by_hand, "load", lambda: (images[:300], labels[:300], test_images[:100], test_labels[:100]))
    monkeypatch.setattr("sys.argv", ["by_hand.py", "--seeds", "2", "--epochs", "1"])
    by_hand.main()
    notes = [d.message for d in check_file(ROOT / "plans" / "colt.plan").diagnostics if d.code == "TD903"]
    rounds = capsys.readouterr().out.splitlines()
    assert f"`until 96%` takes {len(rounds)} rounds on lenet-300-100" in notes
    assert all(re.fullmatch(r"round \d  ticket \S+ ± .* fresh weights \S+ ± .*", line) for line in rounds)


def code_lines() -> int:
    """The script's lines without blank ones, comments and the docstring of the module."""
    text = SCRIPT.read_text("utf-8")
    head = ast.parse(text).body[0]
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - set(range(head.lineno, (head.end_lineno or head.lineno) + 1)))


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_the_pages_give_its_length(page: str) -> None:
    text = " ".join((ROOT / page).read_text("utf-8").split())
    (number,) = re.findall(r"(\d+) lines of (?:code|plain torch)", text)
    assert int(number) == code_lines()


def test_one_seed_has_no_interval(by_hand: ModuleType) -> None:
    assert by_hand.interval([0.5]) == "+0.50 points"
    assert by_hand.interval([0.5, 0.5, 0.5]) == "+0.50 ± 0.00 points  winning"
