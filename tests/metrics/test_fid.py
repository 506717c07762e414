"""The Fréchet inception distance: by the features of a network that a file holds, of as many images as are tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from generated_images import digits, network
from step_runner import step_runner
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.metrics.fid import features_by, inception_features, inception_v3, measure_fid
from tickdsl.training.tasks import find_task

CPU = torch.device("cpu")
HEAD = "model {model} width=0.1 latent=4\ndata digits samples=100\ntrain 1ep batch=25 opt=adam lr=0.002\nseeds 1\n"
PRUNE = "prune weights 30%; rewind weights to init\nreport accuracy, fid {options}\n"


def test_the_distance_is_that_of_rounded_generated_images_and_of_all_test_images() -> None:
    data, model = digits(), network()
    torch.manual_seed(0)
    small = nn.Sequential(nn.AvgPool2d(100, 100), nn.Flatten(), nn.Linear(12, 5))
    features = features_by(small.requires_grad_(False), CPU)
    found = measure_fid(model, data, features, CPU)
    torch.manual_seed(0)
    with torch.no_grad():
        generated = model.eval()(data.preprocess()(data.test_inputs)).generated
    stored = ((generated + 1) / 2 * 255).round().to(torch.uint8)
    first, second = (features(images).double().numpy() for images in (stored, data.test_inputs))
    covariances = [np.cov(values, rowvar=False) for values in (first, second)]
    root = np.real(scipy.linalg.sqrtm(covariances[0] @ covariances[1]))
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert found == {"fid": pytest.approx(float(expected), rel=1e-4)}
    assert measure_fid(model, data, features, CPU) == found


def test_images_are_resized_normalised_and_grey_ones_repeated() -> None:
    seen: list[torch.Tensor] = []

    class Watch(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images.flatten(1)[:, :2]

    features_by(Watch(), CPU)(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))
    assert seen[0].shape == (2, 3, 299, 299)
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        assert torch.allclose(seen[0][:, channel], torch.tensor((1 - mean) / std))


def test_the_weights_of_inception_are_read_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    module = inception_v3()
    torch.save(module.state_dict(), path)
    features = inception_features(path, CPU)
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    module.fc = nn.Identity()
    expected = features_by(module.eval(), CPU)(images)
    assert features(images).shape == (2, 2048) and torch.allclose(features(images), expected)


@pytest.mark.parametrize("content", [b"nothing", None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.pth"
    if content is None:
        torch.save(network().state_dict(), path)
    else:
        path.write_bytes(content)
    with pytest.raises(TickdslError, match="does not hold the weights of torchvision's Inception v3"):
        inception_features(path, CPU)


def test_the_step_depends_on_the_content_of_the_file_and_not_on_its_place(tmp_path: Path) -> None:
    keys = []
    for name in ("a.pth", "b.pth", "c.pth"):
        (tmp_path / name).write_bytes(b"other" if name == "c.pth" else b"same")
        text = PRUNE.format(options=f'inception="{tmp_path / name}"')
        study = step_runner(tmp_path, text, HEAD.format(model="dcgan")).study
        steps = [study.step(key) for key in study.graph if study.step(key).operation == "fid"]
        assert len(steps) == 2 and all(set(step.parents) >= {"weights"} for step in steps)
        keys.append({step.key for step in steps})
    assert keys[0] == keys[1] and not keys[0] & keys[2]


def test_networks_that_generate_nothing_have_no_such_step(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"same")
    text = PRUNE.format(options=f'inception="{tmp_path / "a.pth"}"')
    study = step_runner(tmp_path, text, HEAD.format(model="small-cnn").replace(" latent=4", "")).study
    assert all(study.step(key).operation != "fid" for key in study.graph)


@pytest.mark.parametrize(
    ("options", "problem"), [("", "needs the weights of Inception v3"), ('inception="none.pth"', "there is no file")]
)
def test_a_plan_without_the_weights_says_so_before_the_run(tmp_path: Path, options: str, problem: str) -> None:
    with pytest.raises(TickdslError, match=problem):
        step_runner(tmp_path, PRUNE.format(options=options), HEAD.format(model="dcgan"))


def test_the_distance_that_judges_trainings_is_never_called_fid() -> None:
    assert not any("fid" in metric.name.lower() for metric in find_task("generate").metrics)
