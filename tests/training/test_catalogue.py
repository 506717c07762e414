"""The catalogue agrees with the networks and data sets it describes, and loads no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tickdsl.training import catalogue, models
from tickdsl.training.data import datasets
from tickdsl.training.tasks import find_task
from tickdsl.training.torchvision_import import import_torchvision


def test_the_catalogue_loads_no_torch() -> None:
    code = "import sys; from tickdsl.training import catalogue, recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_catalogue_lists_all_torchvision_classifiers() -> None:
    torchvision = import_torchvision()
    assert set(catalogue.TORCHVISION_MODELS) == set(torchvision.models.list_models(module=torchvision.models))


def test_own_names_take_precedence_over_torchvisions() -> None:
    assert catalogue.MODELS["vgg16"].is_builtin
    assert not catalogue.MODELS["torchvision.vgg16"].is_builtin
    assert catalogue.MODELS["resnet18"] == catalogue.MODELS["torchvision.resnet18"]


@pytest.mark.parametrize(
    "name", [info.name for info in catalogue.MODELS.values() if info.is_builtin and info.inputs == "images"]
)
def test_builtin_networks_match_the_catalogue(name: str) -> None:
    import torch

    info = catalogue.MODELS[name]
    size = info.size or (info.options["patch"].default,) * 2  # the least size of a transformer is one patch
    small = {"width": 0.25} if "width" in info.options else {}
    module = models.create(name, classes=7, shape=(2, *size), seed=0, options=small)
    norms = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())
    assert norms == info.batch_norm
    module.eval()
    outputs = module(torch.zeros(1, 2, *size))
    if info.task:  # a task of its own says what it returns: images, here and in what `pictures` shows
        pictures = find_task(info.task).pictures(outputs, torch.zeros(1, 2, *size, dtype=torch.uint8))
        assert pictures is not None and pictures.shape[1:] == (2, *size)
    else:
        per_pixel = size if info.tasks == ("segment",) else ()
        assert outputs.shape == (1, 7, *per_pixel)
    if max(size) > 1:
        smaller = (2, size[0] - 1, size[1] - 1)
        with pytest.raises(Exception, match="at least" if info.size else "patch"):
            models.create(name, classes=7, shape=smaller, seed=0)


@pytest.mark.parametrize(
    "name", ["digits", "synthetic", "shapes", "shapes-tags", "shapes-places", "corpus", "sentences"]
)
def test_builtin_data_sets_match_the_catalogue(name: str) -> None:
    info = catalogue.DATASETS[name]
    data = datasets.load(name)
    assert (data.shape, data.classes, data.task.name) == (info.shape, info.classes, info.task)
    assert (len(data.train_targets), len(data.test_targets)) == (info.train, info.test)
