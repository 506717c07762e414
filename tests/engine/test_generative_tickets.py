"""Tickets of generative models: late rewinding with two optimisers, channels that are drawn early, parts, controls."""

from __future__ import annotations

from pathlib import Path

import pytest
from step_runner import equal_states, step_runner

DATA = "data synthetic size=8 channels=1 classes=4 train=128 test=64\n"
NETWORKS = {
    "conv-vae": f"model conv-vae width=0.2 latent=4\n{DATA}train 7ep opt=adam lr=0.003 batch=32\n",
    "dcgan": f"model dcgan width=0.2 latent=4\n{DATA}train 7ep opt=adam lr=0.002 beta1=0.5 batch=32\n",
}
#: The layers without batch norm, whose channels `bn-scale` cannot rank.
WITHOUT_SCALES = {"conv-vae": "encoder.mean, encoder.log_variance", "dcgan": "discriminator.conv1"}


@pytest.mark.parametrize("network", ["conv-vae", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_a_late_rewinding_point_is_on_the_way_of_the_dense_training(network: str, tmp_path: Path) -> None:
    prunes = "prune weights global 40% x 2; rewind weights to 10it\n"
    text = prunes + "compare random-init, shuffled-mask, by-snip levels=last\n"
    alone, on_the_way = (step_runner(tmp_path / name, text, NETWORKS[network]) for name in ("alone", "way"))
    (point,) = {alone.study.step(level.ticket).parents["weights"] for level in alone.levels("ticket")}
    on_the_way.run_step(on_the_way.measured_step("dense", 0), deposits=True)
    assert equal_states(alone.weights(point), on_the_way.weights(point))
    for control in ("ticket", "random-init", "shuffled-mask", "by-snip"):
        assert alone.metrics(alone.measured_step(control, 2))["params"] > 0


@pytest.mark.parametrize("network", ["conv-vae", pytest.param("dcgan", marks=pytest.mark.slow)])
def test_channels_are_drawn_early(network: str, tmp_path: Path) -> None:
    text = (
        f"prune filters global 30% by bn-scale except {WITHOUT_SCALES[network]} until mask-distance < 0.9; rewind lr\n"
    )
    found = step_runner(tmp_path, text, NETWORKS[network])
    (level,) = found.levels("ticket")
    drawn = found.metrics(level.structure)
    assert drawn["settled"] and 6 <= drawn["epoch"] <= 7
    dense, ticket = (found.metrics(key) for key in (found.measured_step("dense", 0), level.ticket))
    assert ticket["params"] < dense["params"] and ticket["macs"] < dense["macs"]


@pytest.mark.parametrize(("network", "part"), [("conv-vae", "encoder"), ("conv-vae", "decoder")])
def test_one_part_is_pruned_and_the_other_stays_whole(network: str, part: str, tmp_path: Path) -> None:
    found = step_runner(
        tmp_path, f"prune weights global 50% x 2 in {part}; rewind weights to 10it\n", NETWORKS[network]
    )
    structure = found.structure(found.levels("ticket")[-1].structure)
    assert structure.masks and all(name.startswith(f"{part}.") for name in structure.masks)
