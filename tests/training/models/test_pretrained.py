"""Pretrained weights: loading, errors and the classifier."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tickdsl.errors import TickdslError
from tickdsl.training import models
from tickdsl.training.torchvision_import import import_torchvision

SHAPE = (1, 8, 8)


def network(seed: int, classes: int = 10, **options: Any) -> torch.nn.Module:
    return models.create("small-cnn", classes=classes, shape=SHAPE, seed=seed, options=options)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(dict(network(5).state_dict()), path)
    return path


def test_weights_are_loaded_from_files(saved: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in network(5).state_dict().items()}}, tmp_path / "w.pth")
    for path in (saved, tmp_path / "w.pth"):
        loaded = network(1, weights=str(path)).state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in network(5).state_dict().items())


def test_a_classifier_with_other_classes_keeps_its_initial_weights(saved: Path) -> None:
    loaded, body, head = network(1, 4, weights=str(saved)), network(5), network(1, 4)
    assert torch.equal(loaded.conv1.weight, body.conv1.weight)  # type: ignore[union-attr, arg-type]
    assert torch.equal(loaded.fc.weight, head.fc.weight)  # type: ignore[union-attr, arg-type]


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    with pytest.raises(TickdslError, match="not those of lenet5"):
        models.create("lenet5", classes=10, shape=(1, 28, 28), seed=1, options={"weights": str(saved)})
    with pytest.raises(TickdslError, match="do not fit small-cnn"):
        network(1, width=0.5, weights=str(saved))


class MaliciousCode:
    def __reduce__(self) -> Any:
        return (Path("harmed").touch, ())


@pytest.mark.parametrize("content", ["code", "text", "list", "missing"])
def test_files_without_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    match content:
        case "code":
            torch.save({"x": MaliciousCode()}, path)
        case "text":
            path.write_text("not weights")
        case "list":
            torch.save([torch.zeros(2)], path)
    with pytest.raises(TickdslError):
        network(1, weights=str(path))
    assert not (tmp_path / "harmed").exists()


def test_a_failed_download_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torchvision.models import ResNet18_Weights

    def offline(self: object, *args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    with pytest.raises(TickdslError, match="cannot download the weights of resnet18") as caught:
        models.create("resnet18", classes=10, shape=(3, 32, 32), seed=1, options={"weights": "default"})
    assert "weights=" in str(caught.value.hint)
    with pytest.raises(TickdslError, match="small-cnn has no pretrained weights"):
        network(1, weights="default")


def test_default_weights_get_a_new_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    from torchvision.models import ShuffleNet_V2_X0_5_Weights, shufflenet_v2_x0_5

    theirs = shufflenet_v2_x0_5().state_dict()
    monkeypatch.setattr(ShuffleNet_V2_X0_5_Weights, "get_state_dict", lambda self, **kwargs: theirs)
    loaded = models.create(
        "shufflenet_v2_x0_5", classes=10, shape=(3, 32, 32), seed=1, options={"weights": "default"}
    ).state_dict()
    assert torch.equal(loaded["conv1.0.weight"], theirs["conv1.0.weight"])
    assert loaded["fc.weight"].shape[0] == 10
