"""Errors are reported where the mistake was written, and a broken statement causes no other errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tickdsl.checks import check, check_file
from tickdsl.lang.findings.diagnostics import Diagnostic
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source


def findings(text: str, network: bool = False, **overrides: str) -> list[Diagnostic]:
    report = check(load_source(Source("x.plan", text), overrides), network=network)
    return [d for d in report.diagnostics if d.severity != "note"]


def errors(text: str, network: bool = False, **overrides: str) -> list[Diagnostic]:
    return [d for d in findings(text, network, **overrides) if d.severity == "error"]


def test_a_sweep_value_is_wrong_where_it_was_written() -> None:
    (error,) = errors("sweep scope in [local, globl]\nsweep n in [1, 2]\nprune weights $scope 20% x $n; rewind lr")
    assert (error.code, error.span.line, error.span.text) == ("TD116", 1, "globl")
    assert [label.span.text for label in error.secondary] == ["$scope"]
    assert error.notes == ("with scope=globl",)


def test_the_note_names_only_the_sweeps_that_matter() -> None:
    (error,) = errors(
        "sweep a in [20%, 90%]\nsweep n in [2, 9]\nsweep lr in [0.1, 0.2]\ntrain 2ep lr=$lr\n"
        "prune weights $a of original x $n; rewind lr",
        n="9",
        a="90%",
    )[:1]
    assert error.code == "TD204"
    two = errors(
        "sweep a in [10%, 60%]\nsweep n in [1, 2]\nsweep lr in [0.1, 0.2]\ntrain 2ep lr=$lr\n"
        "prune weights $a of original x $n; rewind lr"
    )
    assert [(d.code, d.notes) for d in two] == [("TD204", ("with a=60%, n=2",))]


def test_an_error_in_a_let_is_reported_at_the_let() -> None:
    (error,) = errors("let x = $y\nlet y = filterz\nprune $x 20%; rewind lr")
    assert (error.span.line, error.span.text) == (2, "filterz")
    assert [(label.span.line, label.text) for label in error.secondary] == [(3, "used here"), (1, "passed on here")]


def test_a_flag_is_wrong_where_it_was_written() -> None:
    (error,) = errors("let scope = local\nprune weights $scope 20%; rewind lr", scope="globl")
    assert (error.span.source.path, error.span.source.text, error.span.text) == ("--set", "--set scope=globl", "globl")
    assert error.secondary[0].span.text == "$scope"


def test_a_layer_of_a_sweep_is_wrong_where_it_was_written() -> None:
    text = "sweep l in [conv1, cnv2]\nprune filters 20% except $l; rewind lr"
    (error,) = errors(text, network=True)
    assert (error.code, error.span.line, error.span.text) == ("TD402", 1, "cnv2")
    assert error.notes == ("with l=cnv2",)


@pytest.mark.parametrize("inner", ["trian 3ep", "train 3ep momentun=0.9", "let s = globl"])
def test_an_included_file_is_named_with_the_chain(tmp_path: Path, inner: str) -> None:
    (tmp_path / "inner.plan").write_text(inner + "\n")
    (tmp_path / "middle.plan").write_text('include "inner.plan"\n')
    use = "$s" if "globl" in inner else "local"
    (tmp_path / "main.plan").write_text(f'include "middle.plan"\nprune weights {use} 20%; rewind lr\n')
    report = check_file(tmp_path / "main.plan", network=False)
    (error,) = [d for d in report.diagnostics if d.severity == "error"]
    assert Path(error.span.source.path).name == "inner.plan"
    chain = [Path(label.span.source.path).name for label in error.secondary if label.text == "included here"]
    assert chain == ["middle.plan", "main.plan"]


def test_a_broken_statement_hides_no_errors_elsewhere() -> None:
    codes = {
        d.code
        for d in findings(
            "let x 3\narm a { prune weights 20% by magnitud; rewind lr }\narm b { prune filters 20% x 3 }\n"
            "compare a, bb\nsweep unused in [1, 2]\nseeds [1, 1]"
        )
    }
    assert codes == {"TD001", "TD103", "TD310", "TD110", "TD512", "TD504"}


def test_networks_of_valid_arms_are_checked_despite_errors_elsewhere() -> None:
    text = 'arm a { prune weights 20% by magnitud; rewind lr }\narm b { prune filters 20% except "cnv*"; rewind lr }'
    assert [d.code for d in errors(text, network=True)] == ["TD103", "TD402"]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("let share 20%\nprune weights $share; rewind lr", ["TD001"]),
        ("sweep s [local, global]\nprune weights $s 20%; rewind lr", ["TD001"]),
        ("arm a { prune weights 20%; rewind rl }\ncompare a, dense", ["TD001"]),
        ("arm a { prune weights }\ncompare a", ["TD001"]),
        ("arm a { prune weights 20%; rewind lr }\narm b prune weights\ncompare a, b", ["TD001"]),
        ("arm a { prune weights 20%; rewind lr }\ncompare a b", ["TD001"]),
        ("split clases 2\nprune weights 20%; overlap; rewind weights", ["TD001"]),
        ('include "nowhere.plan"\nprune weights $n x 3; rewind lr', ["TD113"]),
        ("arm a {\nprune weights 20%\nrewind lr\narm b { prune weights 30%; rewind lr }\ncompare a, b", ["TD003"]),
        ("seed 3\nprune weights 20%; rewind lr", ["TD010"]),
        ("model vgg16 on cifar10\ndata digits\nprune weights 20%; rewind lr", ["TD108"]),
        ("prune weights 20%; rewind lr rewind weights", ["TD012"]),
        ("arm a\n{\n  prune weights 20%\n  rewind lr\n}\ncompare a", ["TD001"]),
        ("arm a { prune weights 20%; rewind lr }}\ncompare a", ["TD001"]),
    ],
)
def test_a_broken_statement_causes_no_other_findings(text: str, codes: list[str]) -> None:
    assert [d.code for d in findings(text) if d.code != "TD505"] == codes


def test_variables_work_everywhere() -> None:
    assert (
        errors(
            "let k = 1\nlet parts = 2\nlet base = original\nlet rivals = [dense, random-init]\nlet shown = accuracy\n"
            "split classes $parts\nprune weights 20% of $base; overlap $k of $parts; rewind weights\n"
            "compare $rivals\nreport $shown, sparsity"
        )
        == []
    )
    assert [d.code for d in errors("let shown = acuracy\nprune weights 20%; rewind lr\nreport $shown")] == ["TD114"]
    assert "TD106" in {d.code for d in errors("sweep r in [dense, early]\nprune weights 20%; rewind lr\ncompare $r")}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cycle 2 { " * 400 + "prune weights 1%" + " }" * 400, "TD016"),
        ("let x = " + "[" * 400 + "1" + "]" * 400 + "\nprune weights 1%; rewind lr", "TD016"),
        ("cycle 999 { cycle 999 { cycle 999 { prune weights 1%; prune filters 1%; rewind lr } } }", "TD207"),
        ("prune weights 1% x 99999999999; rewind lr", "TD207"),
        ("seeds 99999999999\nprune weights 1%; rewind lr", "TD105"),
        ("seeds 1..99999999999\nprune weights 1%; rewind lr", "TD105"),
        ("sweep a in 1..99999999999\nprune weights 1% x $a; rewind lr", "TD105"),
        ("\n".join(f"sweep s{i} in 1..100" for i in range(6)) + "\nprune filters $s0 x $s1 in $s2", "TD518"),
        ("prune weights " + "9" * 5000 + "%; rewind lr", "TD001"),
        ("train " + "9" * 5000 + "ep; prune weights 9%; rewind lr", "TD001"),
    ],
)
def test_absurd_sizes_are_rejected_quickly(text: str, code: str) -> None:
    assert code in {d.code for d in errors(text)}


def test_transferred_tickets_are_compared_on_the_new_data() -> None:
    moved = "model small-cnn on mnist\nseeds 3\narm moved { prune weights 20%; rewind weights; transfer to digits }\n"
    own = "arm own { data digits; prune weights 20%; rewind weights }\ncompare moved, own, random-init"
    assert findings(moved + own) == []
    staying = "arm staying { prune weights 20%; rewind weights }\ncompare moved, staying, random-init"
    (warning,) = findings(moved + staying)
    assert warning.code == "TD516" and "`moved` is tested on digits and arm `staying` on mnist" in warning.message


def test_rewinding_to_pretrained_weights_is_not_rewinding_to_init() -> None:
    given = "model resnet18 weights=default\ndata digits size=32 channels=3\nseeds 3\n"
    arm = "prune weights 20%; rewind weights to pretrained\ncompare random-init"
    assert findings(given + arm) == []
