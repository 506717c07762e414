"""Networks: initial weights, classifiers, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.training import catalogue, models
from tickdsl.training.models.initialisation import haar_filters

BUILTIN = [info.name for info in catalogue.MODELS.values() if info.is_builtin and info.inputs == "images"]
ONE_A_FAMILY = ["small-cnn", "lenet-300-100", "lenet5", "conv6", "conv3", "vgg11", "resnet20", "fast-resnet", "unet"]
SMALL_TORCHVISION = ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "resnet18", "efficientnet_b0"]


def _shape(name: str) -> tuple[int, int, int]:
    info = catalogue.MODELS[name]
    side = -(-max(32, info.size[0] if info.size else 0) // info.multiple) * info.multiple
    return (info.channels or 3, side, side)


@pytest.mark.parametrize("name", [*ONE_A_FAMILY, *SMALL_TORCHVISION])
def test_the_body_depends_on_the_seed_but_not_on_the_number_of_classes(name: str) -> None:
    before = torch.random.get_rng_state()
    options = {"width": 0.5} if catalogue.MODELS[name].is_builtin else {}
    few, many, again = (
        models.create(name, classes=n, shape=_shape(name), seed=3, options=options) for n in (5, 10, 10)
    )
    other = models.create(name, classes=10, shape=_shape(name), seed=4, options=options)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator was used"
    head = models.classifier_path(few)
    assert models.classifier_path(many) == head
    differing = 0
    for key, tensor in many.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key])
        if not key.startswith(head + "."):
            assert torch.equal(tensor, few.state_dict()[key]), key
        differing += not torch.equal(tensor, other.state_dict()[key])
    assert differing > 1
    assert few.state_dict()[f"{head}.weight"].shape[0] == 5


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_networks_are_initialised_kaiming_normal(name: str) -> None:
    module = models.create(name, classes=10, shape=_shape(name), seed=0)
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.numel() > 2000:
            expected = 0.02 if name == "vit" and path != "patches" else math.sqrt(2 / layer.weight[0].numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1), path
        if getattr(layer, "bias", None) is not None:
            assert not layer.bias.any(), path


def test_a_pruned_network_is_reinitialised_with_its_own_fan_in() -> None:
    module: Any = models.create("conv4", classes=10, shape=(3, 32, 32), seed=0)
    module.conv2 = nn.Conv2d(16, 64, 3, padding=1)
    module.conv1 = nn.Conv2d(3, 16, 3, padding=1)
    first = module.conv4.weight.clone()
    models.reinitialise(module, seed=0, role="reinit-1", name="conv4", origins={}, fan_in_shares={})
    assert module.conv2.weight.std().item() == pytest.approx(math.sqrt(2 / (16 * 9)), rel=0.1)
    assert not torch.equal(first, module.conv4.weight)


def test_a_replaced_classifier_equals_that_of_create() -> None:
    shape = (1, 8, 8)
    ten = models.create("small-cnn", classes=10, shape=shape, seed=5)
    five = models.create("small-cnn", classes=5, shape=shape, seed=5)
    models.replace_classifier(five, classes=10, seed=5, name="small-cnn")
    assert all(torch.equal(a, b) for a, b in zip(ten.parameters(), five.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "shape", "message", "hint"),
    [
        ("vgg16", (1, 8, 8), "at least 16x16; the data has 1x8x8", "size=16"),
        ("torchvision.vgg16", (3, 8, 8), "at least 32x32", "size=32"),
        ("resnet18", (1, 28, 28), "3 channels", "channels=3"),
        ("vit_b_16", (3, 30, 30), "multiples of 16", "size=32"),
        ("maxvit_t", (3, 64, 64), "exactly 224x224", "size=224"),
        ("unet", (3, 3, 8), "at least 4x4; the data has 3x3x8", "size=4"),
        ("vgg61", (3, 32, 32), "unknown model `vgg61`", "vgg16"),
    ],
)
def test_unsuitable_images_are_refused_with_a_hint(
    name: str, shape: tuple[int, int, int], message: str, hint: str
) -> None:
    with pytest.raises(TickdslError) as caught:
        models.create(name, classes=10, shape=shape, seed=0)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.slow
@pytest.mark.parametrize("name", catalogue.TORCHVISION_MODELS)
def test_torchvisions_networks_are_built_for_the_classes(name: str) -> None:
    module = models.create(f"torchvision.{name}", classes=7, shape=_shape(f"torchvision.{name}"), seed=0)
    module.eval()
    with torch.no_grad():
        scores = module(torch.zeros(1, *_shape(f"torchvision.{name}")))
    assert scores.shape == (1, 7)


# -- fast-resnet


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_filters_of_the_stem_are_an_orthonormal_basis_and_its_negative(channels: int) -> None:
    filters = haar_filters(channels)
    assert filters.shape == (8 * channels, channels, 2, 2)
    basis = filters[::2].flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(4 * channels), atol=1e-6, rtol=0)
    assert torch.equal(filters[1::2], -filters[::2])


def test_a_pruned_stem_is_reinitialised_with_filters_of_the_basis() -> None:
    module: Any = models.create("fast-resnet", classes=10, shape=(3, 32, 32), seed=0, options={"width": 0.1})
    assert torch.equal(module.conv1.weight, haar_filters(3))
    narrow = nn.Conv2d(3, 9, 2, bias=False)
    narrow.initial_basis = module.conv1.initial_basis
    module.conv1 = narrow
    models.reinitialise(module, seed=0, role="reinit-1", name="fast-resnet", origins={}, fan_in_shares={})
    assert torch.equal(narrow.weight, haar_filters(3)[:9])


def test_the_stem_decorrelates_smooth_images() -> None:
    """As whitening does: neighbouring pixels and channels of such images are almost equal, its outputs are not."""
    stream = torch.Generator().manual_seed(0)
    grey = torch.randn(64, 1, 8, 8, generator=stream) + torch.randn(64, 3, 8, 8, generator=stream) / 4
    images = nn.functional.interpolate(grey, size=32, mode="bicubic")
    outputs = nn.functional.conv2d(images, haar_filters(3)[::2]).transpose(0, 1).flatten(1)
    pixels = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(1, 4, 5, 0, 2, 3).reshape(12, -1)
    off_diagonal = ~torch.eye(12, dtype=torch.bool)
    assert torch.corrcoef(pixels)[off_diagonal].abs().mean() > 0.8
    assert torch.corrcoef(outputs)[off_diagonal].abs().mean() < 0.1
