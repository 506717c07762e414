"""Plans whose network takes one part from another: the decoder of a VAE as the generator of a GAN, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generated_images import network
from plan_tickets import plan_ticket, written
from safetensors.torch import save_file
from step_runner import StepRunner, step_runner

from tickdsl.checks import check_file
from tickdsl.errors import TickdslError

OPTIONS = {"width": 0.25, "latent": 6}
TRAIN = "data digits samples=80\ntrain 2ep batch=20 opt=adam lr=0.002\nseeds 1\n"
PRUNE = "prune weights global 30%; rewind weights to init\n"


def head(path: Path, model: str = "dcgan", part: str = "decoder=generator") -> str:
    return f'model {model} width=0.25 latent=6 weights="{path}" map="{part}"\n'


def runner(folder: Path, path: Path, text: str = PRUNE, **more: str) -> StepRunner:
    return step_runner(folder, text, head=head(path, **more) + TRAIN)


@pytest.mark.parametrize(
    ("source", "model", "part"),
    [("conv-vae", "dcgan", "decoder=generator"), ("dcgan", "conv-vae", "generator=decoder")],
)
def test_a_ticket_of_one_part_starts_another_network(tmp_path: Path, source: str, model: str, part: str) -> None:
    ticket = plan_ticket(source, OPTIONS, masks=True)
    path = written(tmp_path / "ticket.safetensors", ticket)
    study = runner(tmp_path, path, model=model, part=part)
    theirs, ours = part.split("=")
    dense = study.measured_step("dense", 0)
    assert study.study.step(dense).operation == "train"  # the rest of the network is not trained yet
    base = study.structure(study.study.step(dense).parents["structure"])
    for name, kept in ticket.structure.kept.items():
        if name.startswith(theirs):
            assert (base.kept[name.replace(theirs, ours)] == kept).all()
    assert {name.partition(".")[0] for name in (*base.kept, *base.masks)} == {ours}
    init = study.weights(study.study.step(dense).parents["weights"])
    for name, weight in ticket.weights.items():
        if name.startswith(f"{theirs}."):
            assert torch.equal(init[name.replace(theirs, ours, 1)], weight)
    trained = study.weights(study.levels("ticket")[-1].ticket)
    masks = study.structure(study.levels("ticket")[-1].structure).masks
    assert {name for name in masks if name.startswith(ours)} and trained.keys() == init.keys()


def test_plain_weights_of_one_part_leave_the_others_fresh(tmp_path: Path) -> None:
    weights = network("conv-vae", seed=9).state_dict()
    save_file(dict(weights), tmp_path / "vae.safetensors")
    study = runner(tmp_path, tmp_path / "vae.safetensors")
    plain = step_runner(tmp_path, PRUNE, head="model dcgan width=0.25 latent=6\n" + TRAIN)
    init, fresh = (
        each.weights(each.study.step(each.measured_step("dense", 0)).parents["weights"]) for each in (study, plain)
    )
    for name, weight in init.items():
        expected = weights[name.replace("generator", "decoder")] if name.startswith("generator") else fresh[name]
        assert torch.equal(weight, expected), name


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        ("decoder", "must say which part of the weights goes into which"),
        ("critic=generator", "has no part `critic`"),
        ("encoder=generator", "generator"),
    ],
)
def test_a_map_that_does_not_fit_is_found_before_the_run(tmp_path: Path, part: str, problem: str) -> None:
    path = written(tmp_path / "ticket.safetensors", plan_ticket("conv-vae", OPTIONS))
    plan = tmp_path / "test.plan"
    plan.write_text(head(path, part=part) + TRAIN + PRUNE)
    errors = [found for found in check_file(plan).diagnostics if found.severity == "error"]
    assert errors and problem in errors[0].message, errors
    assert errors[0].help


def test_parts_of_other_sizes_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "ticket.safetensors", plan_ticket("conv-vae", {**OPTIONS, "width": 0.5}))
    with pytest.raises(TickdslError, match=r"`decoder\..* is 32.* and `generator\..*` is 16.* here"):
        runner(tmp_path, path).weights(runner(tmp_path, path).measured_step("dense", 0))
