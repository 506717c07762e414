"""`until mask-distance`: prune after the epoch at which the selection stops changing."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import HEAD, StepRunner, equal_states, step_runner

from tickdsl.checks import check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.pruning.early_bird import mask_distance

LONG = HEAD.replace("3ep", "8ep")


def settled(folder: Path, until: str, tail: str = "rewind lr") -> tuple[StepRunner, str]:
    found = step_runner(folder, f"prune filters 50% by bn-scale until {until}; {tail}", LONG)
    (level,) = found.study.levels
    return found, level.structure


def test_the_choice_is_that_of_the_first_epoch_at_which_it_has_settled(tmp_path: Path) -> None:
    found, key = settled(tmp_path, "mask-distance < 95%")
    metrics = found.metrics(key)
    assert metrics["settled"] and metrics["epoch"] == 6  # the first with five earlier ones
    step = found.study.step(key)
    assert sorted(step.parents) == [f"epoch {n}" for n in range(1, 9)]
    assert equal_states(found.weights(key), found.weights(step.parents["epoch 6"]))
    at = step_runner(tmp_path, "prune filters 50% by bn-scale at 6ep; rewind lr", LONG)
    assert at.structure(at.study.levels[0].structure) == found.structure(key)


def test_the_distance_is_to_the_farthest_of_five_choices(tmp_path: Path) -> None:
    found, key = settled(tmp_path, "mask-distance < 0.1%")
    metrics = found.metrics(key)
    chosen = []
    for epoch in range(1, 9):
        at = step_runner(tmp_path, f"prune filters 50% by bn-scale at {epoch}ep; rewind lr", LONG)
        chosen.append(at.structure(at.study.levels[0].structure))
    units = 8 + 16 + 16
    assert metrics["distances"] == [
        [epoch, max(mask_distance(chosen[epoch - 1], other, units) for other in chosen[epoch - 6 : epoch - 1])]
        for epoch in (6, 7, 8)[: len(metrics["distances"])]
    ]
    if not metrics["settled"]:
        assert metrics["epoch"] == 8


def test_a_latest_moment_bounds_the_wait(tmp_path: Path) -> None:
    found = step_runner(tmp_path, "prune filters 50% by bn-scale at 2ep until mask-distance < 0.1; rewind lr", LONG)
    metrics = found.metrics(found.study.levels[0].structure)
    assert not metrics["settled"] and metrics["epoch"] == 2 and metrics["distances"] == []


def test_the_ticket_goes_on_from_the_weights_of_that_epoch(tmp_path: Path) -> None:
    found, key = settled(tmp_path, "mask-distance < 95%")
    ticket = found.study.step(found.study.levels[0].ticket)
    assert ticket.parents["weights"] == ticket.parents["structure"] == key
    assert found.metrics(found.study.levels[0].ticket)["accuracy"] >= 0
    back, _ = settled(tmp_path, "mask-distance < 95%", "rewind weights to init")
    rewound = back.study.step(back.study.levels[0].ticket)
    assert back.study.step(rewound.parents["weights"]).operation == "init"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prune filters 50% until mask-distance < 0.1", "TD006"),
        ("prune filters 50% until mask-distance > 0.1; rewind lr", "TD201"),
        ("prune filters 50% x 3 until mask-distance < 0.1; rewind lr", "TD209"),
        ("train 500it\nprune filters 50% until mask-distance < 0.1; rewind lr", "TD302"),
        ("prune filters 50% at 10it until mask-distance < 0.1; rewind lr", "TD302"),
        ("prune filters 20%; prune filters 50% until mask-distance < 0.1; rewind lr", "TD007"),
        ("prune filters 50%; rewind lr; stop when mask-distance < 0.1", "TD114"),
    ],
)
def test_what_cannot_settle_is_said(text: str, code: str) -> None:
    found = check(load_source(Source("x.plan", text)), network=False).diagnostics
    assert code in {d.code for d in found if d.severity == "error"}
