"""The catalogue says what is true of the networks and data sets, and says it without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tickdsl.training import catalogue, models
from tickdsl.training.data import datasets
from tickdsl.training.torchvision_import import import_torchvision


def test_it_loads_no_torch() -> None:
    code = "import sys; from tickdsl.training import catalogue, recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_lists_torchvisions_classifiers() -> None:
    torchvision = import_torchvision()
    assert set(catalogue.TORCHVISION_MODELS) == set(torchvision.models.list_models(module=torchvision.models))


def test_names_of_ours_win_and_torchvisions_are_reachable() -> None:
    assert catalogue.MODELS["vgg16"].is_builtin
    assert not catalogue.MODELS["torchvision.vgg16"].is_builtin
    assert catalogue.MODELS["resnet18"] == catalogue.MODELS["torchvision.resnet18"]


@pytest.mark.parametrize("name", [info.name for info in catalogue.MODELS.values() if info.is_builtin])
def test_facts_of_our_networks_hold(name: str) -> None:
    import torch

    info = catalogue.MODELS[name]
    assert info.size is not None
    module = models.create(name, classes=7, shape=(2, *info.size), seed=0, options={"width": 0.25})
    norms = any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())
    assert norms == info.batch_norm
    module.eval()
    assert module(torch.zeros(1, 2, *info.size)).shape == (1, 7)
    if max(info.size) > 1:
        smaller = (2, info.size[0] - 1, info.size[1] - 1)
        with pytest.raises(Exception, match="at least"):
            models.create(name, classes=7, shape=smaller, seed=0)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_facts_of_embedded_data_hold(name: str) -> None:
    info = catalogue.DATASETS[name]
    found = datasets.load(name)
    assert (found.shape, found.classes) == (info.shape, info.classes)
    assert (len(found.train_labels), len(found.test_labels)) == (info.train, info.test)
