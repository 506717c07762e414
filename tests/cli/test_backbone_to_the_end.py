"""A classifier is trained, pruned and exported; a segmenter starts from its backbone, and is pruned further."""

from __future__ import annotations

import pytest
from command_line import CliHarness

from tickdsl.tickets.ticket_file import open_ticket


@pytest.mark.slow
def test_a_classifier_that_was_trained_and_pruned_goes_on_as_a_segmenter(harness: CliHarness) -> None:
    data = "size=16 train=120 test=60"
    harness.write(
        f"model unet-encoder width=0.5\ndata shapes-tags {data}\ntrain 2ep opt=adam lr=0.01 batch=20\nseeds 1\n"
        "prune filters local 25% except head; rewind lr\nprune weights global 40% except head; rewind lr\n",
        head="",
    )
    assert harness.run("--no-tensorboard").exit == 0
    path = harness.folder / "t.safetensors"
    exported = harness.call("export", harness.last_run.folder, "--level", 2, "--to", path)
    assert exported.exit == 0, exported.err
    ticket = open_ticket(path)
    assert ticket.structure.kept and ticket.structure.masks
    model = 'model unet width=0.5 weights="t.safetensors" map="encoder*=encoder*"'
    harness.write(
        f"{model}\ndata shapes {data}\ntrain 4ep opt=adam lr=0.01 batch=20\nseeds 1\n"
        "prune weights global 30% x 2 except head; rewind weights to pretrained\ncompare random-init, dense\n",
        head="",
    )
    assert harness.call("check", harness.plan).exit == 0
    ran = harness.run("--no-tensorboard")
    assert ran.exit == 0, ran.err
    final = harness.folder / "unet.safetensors"
    assert harness.call("export", harness.last_run.folder, "--level", 2, "--to", final).exit == 0
    found = open_ticket(final)
    for name, kept in ticket.structure.kept.items():
        assert (found.structure.kept[name] == kept).all()
    for name, mask in ticket.structure.masks.items():
        if name.startswith("encoder"):
            assert not (found.structure.masks[name] & ~mask).any()
    assert {name.partition(".")[0] for name in found.structure.kept} == {"encoder1", "encoder2", "encoder3"}
    assert "map" not in found.source.options and "weights" not in found.source.options
    measured = harness.call("evaluate", final, "--on", f"shapes {data}")
    assert measured.exit == 0, measured.err
    dense = [event for event in harness.events_of("metric") if event.contestant == "dense"]
    assert dense[0].score > dense[0].chance  # it has learnt
