"""Common mistakes, and the corrections that the messages suggest."""

from __future__ import annotations

import pytest

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source


def first_error(text: str) -> str:
    """The first error, its label and its help."""
    diagnostics = check(load_source(Source("x.plan", text)), network=False).diagnostics
    first = next(d for d in diagnostics if d.severity == "error")
    return f"{first.message} {first.label} {first.help}"


@pytest.mark.parametrize(
    ("written", "correction"),
    [
        ("model vgg16 cifar10", "`model vgg16 on cifar10`"),
        ("data digits size=32px", "`size=32`"),
        ("train 160 lr=0.1", "`160ep` or `160it`"),
        ("train 160ep, lr=0.1", "separate options by spaces"),
        ("train 160ep cosine", "`schedule=cosine`"),
        ("train 160ep lr=.1", "`0.1`"),
        ("train 160ep learning_rate=0.1\nprune layers 1", "did you mean `lr`?"),
        ("train 160ep weight_decay=1e-4\nprune layers 1", "did you mean `decay`?"),
        ("train 160ep milestones=[80, 120]\nprune filters 20%", "`80ep` or `80it`"),
        ("prune 20% filters", "`prune filters 20%`"),
        ("prune channels 20%", "did you mean `filters`?"),
        ("prune weights by l1 20%", "`20% by …`"),
        ("prune filters 20% x 3 magnitude", "`by magnitude`"),
        ("prune filters share x 3", "`$share`"),
        ("prune filters 20% x n", "`x $name`"),
        ("prune filters 20% for 8 rounds", "`x 8`"),
        ("prune filters to 50", "`to 50%`"),
        ("prune filters 20%, 30%", "`[20%, …]`"),
        ("prune weights 20%; rewind weights init", "`rewind weights to init`"),
        ("prune weights 20%; rewind lr from 5ep", "`rewind lr to 5ep`"),
        ("prune weights 20%; rewind to 5%", "`rewind weights to 5%`"),
        ("let rate 0.1", "`let rate = 0.1`"),
        ("let x = 2 * 3", "no arithmetic"),
        ("seeds [1, 2", "`]`"),
        ("for p in [1, 2] { prune layers $p }", "`sweep NAME in"),
        ("for 3 { prune layers 1 }", "`cycle 8"),
        ("arm 2nd { prune weights 20% }", "must start with a letter"),
        ("arm my arm { prune weights 20% }", "`arm my-arm {`"),
        ("prune weights 20%\ncompare baseline", "did you mean `dense`?"),
        ("prune weights 20%\nreport top1", "did you mean `accuracy`?"),
        # English
        ("train for 30 epochs lr=0.1", "`train 30ep`"),
        ("train for 2000 iterations", "`train 2000it`"),
        ("train with batch=32", "without a word between"),
        ("prune weights 20%; retrain 7 epochs", "`retrain fine-tune 7ep`"),
        ("prune weights 20%; retrain", "`rewind lr`"),
        ("prune weights 20%; retrain scaled for 3 epochs", "`retrain scaled 3ep`"),
        ("prune weights 20%; retrain one-cycle for 400 steps", "`retrain one-cycle 400it`"),
        ("prune weights 35 percent x 2", "`35%`"),
        ("prune filters 35% local", "`local 35%`"),
        ("prune neurons 3 uniform", "`uniform 3`"),
        ("prune global neurons 35%", "`prune neurons global 20%`"),
        ("prune weights 35% until 85% sparsity", "`until 85%`"),
        ("prune weights to 85% sparsity", "`to 85%`"),
        ("prune weights 35% until sparsity 85%", "`until 85%`"),
        ("prune weights 35% until sparsity == 85%", "`until 85%`"),
        ("prune weights 35% in conv2 and conv3", "`conv2, conv3`"),
        ("prune weights 35% except layer conv2", "`except conv2`"),
        ("prune weights 35% x 1.5", "rounds are whole"),
        ("prune weights 35% using magnitude", "`by magnitude`"),
        ("prune weights 35% then rewind lr", "`;`"),
        ("prune weights 35%\ncompare against dense", "`compare dense`"),
        ("prune filters 35%\nstop when flops < 2.5M", "`2500000`"),
        ("prune weights to 95 per cent", "`95%`"),
        ("prune weights 30% X 4", "small x: `x 4`"),
        ("prune weights 30% 4x", "small x: `x 4`"),
        ("prune weights 30% 4 times; rewind lr", "small x: `x 4`"),
        ("prune layerwise weights 30%", "`local`"),
        ("prune weights per layer 30%", "`local`"),
        ("prune filters 30% without conv1, fc", "`except conv1, fc`"),
        ("prune filters 30% only conv1", "`in conv1`"),
        ("prune filters 30% conv1", "`in conv1`"),
        ("prune conv1 30%", "`prune weights 30% in conv1`"),
        ("prune weights 30% before training", "`at init`"),
        ("prune weights 30% after 3 epochs", "`at 3ep`"),
        ("prune weights to 0.85", "`to 85%`"),
        ("prune weights 2:4", "N:M sparsity"),
        ("prune weights 20%; rewind to init", "`rewind weights to init`"),
        ("prune weights 20%; distill dense", "`distill from dense`"),
        ("prune weights 20%; transfer cifar10", "`transfer to cifar10`"),
        ("prune weights 20%\nstop when elbo < - 120", "`-120`"),
        ("prune weights 20%\nstop when drop < -2%", "`-2`"),
        ("train 9ep lr=-0.1\nprune weights 20%", "only bounds of conditions are negative"),
        ("prune weights 20%\nstop if loss > 3", "`stop when"),
        ("prune weights 20%\nstop when accuracy drops below 70%", "`accuracy < 70%`"),
        ("prune weights 20% until sparsity exceeds 70%", "`sparsity > 70%`"),
        ("cycle 5 times { prune weights 20%; rewind lr }", "`cycle 5 {"),
        ("arm first: { prune weights 20% }", "`arm first {"),
        # Python, torch, other tools
        ("prune weights amount=0.3", "`30%`"),
        ("prune filters 20% importance=l2", "`by l2`"),
        ("prune filters 20% iterative_steps=6", "`x 6`"),
        ("prune weights 90% from 2ep every 10it", "`from 2ep to 20ep every 100it`"),
        ("prune weights 90% from 2 to 8 every 10it", "`from 2ep to 20ep every 100it`"),
        ("prune weights 80% at init; evolve weights 30", "`evolve weights 30% grow=gradient every=100it until=75%`"),
        ("prune weights [conv1: 0.1, fc: 20%]", "`conv1: 10%`"),
        ("prune weights [conv1 20%, fc: 20%]", "`conv1: 20%`"),
        ("prune weights {conv1: 20%, fc: 20%}", "in brackets"),
        ("prune filters to 50% of flop", "did you mean `flops`?"),
        ("prune filters 50% flops", "`to 50% of flops`"),
        ("prune filters 40% of the parameters", "`to 40% of params`"),
        ("prune filters 30% of macs", "`to 30% of flops`"),
        ("prune filters to 30% of macs", "`to 30% of flops`"),
        ("prune filters 20% round_to=8", "`multiple=8`"),
        ("prune weights 20% lowest", "`order=lowest`"),
        ("prune filters 20% ignored_layers=[conv1, fc]", "`except conv1, fc`"),
        ("prune filters 20% in [conv1, conv2]", "`in conv1, conv2`"),
        ("prune weights 20% in 0.conv", '`"0.conv"`'),
        ("prune weights 20% in layer1.", "`layer1.**`"),
        ("prune unstructured 20%", "`prune weights 20%`"),
        ("model resnet20 width=0.5 on digits", "`model resnet20 on digits width=0.5`"),
        ("model resnet20(pretrained=True) on cifar10", "`weights=default`"),
        ("model resnet20 on cifar10 pretrained=on\nprune weights 20%", "did you mean `weights`?"),
        ("train 9ep optimizer=adam\nprune weights 20%", "did you mean `opt`?"),
        ("train epochs=9\nprune weights 20%", "`train 160ep`"),
        ("train 9ep seed=4\nprune weights 20%", "`seeds 3`"),
        ("train 9ep num-workers=4\nprune weights 20%", "--jobs"),
        ("train 9ep schedule=CosineAnnealingLR\nprune weights 20%", "did you mean `cosine`?"),
        ("seeds 4, 5,6", "`seeds [4, 5, 6]`"),
        ("seeds 2-9", "`seeds 2..9`"),
        ("seeds range(7)", "`seeds 7`"),
        ("seeds = 7", "remove the `=`"),
        ("include shared/base.plan", '`include "shared/base.plan"`'),
        ("let rate: 0.1", "`let rate = 0.1`"),
        ("$rate = 0.1", "`let rate = 0.1`"),
        ("synflow 80%", "`prune weights 20% by synflow`"),
        ("evaluate", "`report accuracy"),
        ("/* pruning */", "comments start with `#`"),
        ('plan "mine"', "the name of its file"),
        # what a statement means
        ('include "..\\shared\\base.plan"; prune weights 20%', '`include "../shared/base.plan"`'),
        ("train 9ep\nprune weights 20%; rewind lr\ntrain 2ep", "`retrain fine-tune 5ep`"),
    ],
)
def test_a_common_mistake_gets_its_correction(written: str, correction: str) -> None:
    assert correction in first_error(written + "\n")


@pytest.mark.parametrize(
    ("written", "correction"),
    [
        ("prune weights 20% in conv1; prune weights 50% in conv2; rewind lr", "`cycle 1 {"),
        ("prune weights to 80% in conv1; rewind lr", "without `to`"),
    ],
)
def test_the_way_out_of_a_meaning_that_nobody_wants(written: str, correction: str) -> None:
    report = check(load_source(Source("x.plan", f"model small-cnn on digits\nseeds 3\n{written}\n")))
    assert any(correction in (d.help or "") for d in report.diagnostics)
    cured = "cycle 1 { prune weights 20% in conv1; prune weights 50% in conv2; rewind lr }"
    cured += "; prune weights 80% in conv1; rewind lr"
    assert check(load_source(Source("x.plan", f"model small-cnn on digits\nseeds 3\n{cured}\n"))).errors == 0


def test_a_phrase_elsewhere_in_the_statement_does_not_count() -> None:
    assert "`at 500it`" not in first_error("prune filters 20% at 500 steps in conv1 !!\n")
    assert "small x" not in first_error("prune filters 20% at 500 steps in conv1 !!\n")
    assert "`in 2`" not in first_error("prune layers 2 !!\n")


def test_a_recipe_error_does_not_hide_network_errors() -> None:
    text = "model small-cnn on digits\ntrain 8ep\nprune weights 20% except nolayer; rewind lr to 9ep\n"
    assert {"TD302", "TD402"} <= {d.code for d in check(load_source(Source("x.plan", text))).diagnostics}
