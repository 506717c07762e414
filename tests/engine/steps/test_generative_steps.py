"""Steps of networks that make images: the features they are judged in, their pictures, and pruning one part."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_images import digits
from PIL import Image
from regression_data import PLUGIN
from step_runner import StepRunner, equal_states, step_runner

from tickdsl.engine.steps.samples import save_grid
from tickdsl.errors import TickdslError
from tickdsl.plugins import permission
from tickdsl.records.samples import read_samples
from tickdsl.training.features import train_classifier

GAN = "model dcgan width=0.1 latent=4\ndata digits samples=100\ntrain 2ep batch=25 opt=adam lr=0.002 beta1=0.5\n"
VAE = GAN.replace("dcgan", "conv-vae")
PRUNE = "prune weights 30% x 2 {where}; rewind weights to init\n"


def runner(folder: Path, text: str, head: str = GAN) -> StepRunner:
    return step_runner(folder, "seeds 1\n" + text, head)


def features_of(study: StepRunner) -> str:
    return study.step_labelled("features to judge by")


def test_the_key_of_the_features_depends_on_the_data_alone(tmp_path: Path) -> None:
    first = runner(tmp_path, PRUNE.format(where=""))
    other = runner(tmp_path, "prune filters 20% x 1; rewind lr\n", GAN.replace("0.1", "0.2").replace("2ep", "3ep"))
    fewer = runner(tmp_path, PRUNE.format(where=""), GAN.replace("100", "90"))
    seeds = step_runner(tmp_path, "seeds 3\n" + PRUNE.format(where=""), GAN)
    assert features_of(first) == features_of(other) == features_of(seeds) != features_of(fewer)
    step = first.study.step(features_of(first))
    assert step.seed is None and set(step.args) == {"data"} and "task" not in step.args["data"]


def test_only_networks_that_generate_are_judged_in_features(tmp_path: Path) -> None:
    study = runner(tmp_path, PRUNE.format(where=""), VAE).study
    assert all(study.step(key).operation != "features" for key in study.graph)
    judged = runner(tmp_path, PRUNE.format(where="")).study
    for key in judged.graph:
        step = judged.step(key)
        assert ("features" in step.parents) is (step.operation in ("train", "evaluate"))


@pytest.mark.parametrize("part", ["generator", "discriminator"])
def test_a_prune_of_one_part_leaves_the_other_whole(tmp_path: Path, part: str) -> None:
    study = runner(tmp_path, PRUNE.format(where=f'in "{part}.**"'))
    level = study.levels("ticket")[-1]
    structure = study.structure(level.structure)
    assert {name.split(".")[0] for name in structure.masks} == {part}
    state = study.weights(level.ticket)
    for name, mask in structure.masks.items():
        assert not state[name].numpy()[~mask].any() and state[name].numpy()[mask].all()


def test_a_gan_trains_again_to_the_same_bits_and_keeps_the_same_pictures(tmp_path: Path) -> None:
    runs = [runner(tmp_path / str(number), PRUNE.format(where="")) for number in range(2)]
    keys = [study.levels("ticket")[-1].ticket for study in runs]
    assert keys[0] == keys[1]
    states, pictures, metrics = [], [], []
    for study, key in zip(runs, keys, strict=True):
        states.append(study.weights(key))
        pictures.append(read_samples(study.context.store.get(key).folder))
        metrics.append(study.metrics(key))
    assert equal_states(*states) and pictures[0] == pictures[1] is not None
    assert metrics[0]["figures"] == metrics[1]["figures"]
    assert metrics[0]["metric"] == "frechet-distance" and metrics[0]["chance"] > 0
    image = np.asarray(Image.open(io.BytesIO(pictures[0])))
    assert image.shape == (4 * 9 + 1, 8 * 9 + 1) and image.dtype == np.uint8 and image.max() > 0


@pytest.mark.parametrize("by", ["snip", "grasp", "taylor", "synflow"])
@pytest.mark.parametrize("head", [GAN, VAE], ids=["gan", "vae"])
def test_criteria_that_run_the_network_find_the_same_structure_again(tmp_path: Path, head: str, by: str) -> None:
    text = f"prune weights 30% x 1 by {by}; rewind weights to init\n"
    masks = []
    for number in range(2):
        torch.manual_seed(number)  # what is drawn does not depend on what was drawn before
        study = runner(tmp_path / str(number), text, head)
        masks.append(study.structure(study.levels("ticket")[-1].structure).masks)
    assert all((masks[0][name] == masks[1][name]).all() for name in masks[0])


def test_statistics_are_recomputed_with_the_same_noise(tmp_path: Path) -> None:
    states = []
    for number in range(2):
        torch.manual_seed(number)
        study = runner(tmp_path / str(number), "prune filters 30% x 1; recalibrate\n")
        states.append(study.weights(study.step_labelled("recalibrate")))
    assert equal_states(*states)


def test_an_early_bird_settles_on_the_batch_norms_of_both_parts(tmp_path: Path) -> None:
    study = runner(
        tmp_path,
        "prune filters global 30% by bn-scale except discriminator.conv1 until mask-distance < 0.9; rewind lr\n",
        GAN.replace("2ep", "8ep"),
    )  # fmt: skip
    metrics = study.metrics(study.step_labelled("prune once settled"))
    assert metrics["settled"] and metrics["epoch"] < 8
    kept = study.structure(study.step_labelled("prune once settled")).kept
    assert {name.split(".")[0] for name in kept} == {"generator", "discriminator"}


def test_data_without_labels_cannot_judge_images() -> None:
    with pytest.raises(TickdslError, match="has no labels: its task is `generate`") as caught:
        train_classifier(digits())
    assert "labelled data" in str(caught.value.hint)


def test_a_grid_holds_every_picture_once(tmp_path: Path) -> None:
    pictures = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 1, 2, 3) + 100
    save_grid(tmp_path / "grid.png", pictures)
    image = np.asarray(Image.open(tmp_path / "grid.png"))
    assert image.shape == (2 * 3 + 1, 8 * 4 + 1)
    values, counts = np.unique(image, return_counts=True)
    assert values.tolist() == [0, *range(100, 110)] and set(counts[1:].tolist()) == {6}
    colour = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    save_grid(tmp_path / "colour.png", colour)
    assert np.asarray(Image.open(tmp_path / "colour.png")).shape == (4, 25, 3)


def test_images_without_labels_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permission, "_allowed", True)
    (tmp_path / "unlabelled_spots.py").write_text(PLUGIN.replace("{change}", ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    head = 'model {} width=0.1 latent=4\ndata "unlabelled_spots:spots"\ntrain 1ep batch=25 opt=adam lr=0.002\n'
    with pytest.raises(TickdslError, match="spots has no labels: its task is regress") as caught:
        runner(tmp_path, PRUNE.format(where=""), head.format("dcgan"))
    assert "labelled images" in str(caught.value.hint)
    # They are reconstructed as any other images.
    study = runner(tmp_path, PRUNE.format(where=""), head.format("conv-autoencoder"))
    assert study.metrics(study.measured_step("dense", 0))["metric"] == "mse"
