"""torchvision's networks for the zoo tests: their names, input shapes, and instances that are ready to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from graph_oracle import make_weights_distinct
from torch import Tensor, nn

from tickdsl.training.torchvision_import import import_torchvision

models = import_torchvision().models

#: All classification networks of torchvision.
CLASSIFICATION: list[str] = models.list_models(module=models)
#: Quantizable versions, in floating point, where additions and concatenations are modules.
QUANTIZABLE: list[str] = models.list_models(module=models.quantization)
SEGMENTATION: list[str] = models.list_models(module=models.segmentation)
VIDEO: list[str] = models.list_models(module=models.video)
#: Detection networks select boxes by value, which cannot be traced; only their backbones are tested.
DETECTION: list[str] = models.list_models(module=models.detection)
BACKBONES = [f"{name}.backbone" for name in DETECTION]
OPTICAL_FLOW: list[str] = models.list_models(module=models.optical_flow)

#: Networks that take gigabytes or minutes in double precision.
HUGE = frozenset({"regnet_y_128gf", "ssd300_vgg16.backbone", "vit_h_14"})

_SMALL: dict[str, tuple[int, ...]] = {
    "inception_v3": (3, 299, 299),
    "maxvit_t": (3, 224, 224),
    "ssd300_vgg16.backbone": (3, 300, 300),
    "s3d": (3, 16, 64, 64),
    "mvit_v1_b": (3, 8, 64, 64),
    "mvit_v2_s": (3, 8, 64, 64),
}
_NATIVE: dict[str, tuple[int, ...]] = {
    "inception_v3": (3, 299, 299),
    "s3d": (3, 16, 224, 224),
    "ssd300_vgg16.backbone": (3, 300, 300),
    "mvit_v1_b": (3, 16, 224, 224),
    "mvit_v2_s": (3, 16, 224, 224),
}


def shape(name: str, native: bool = False) -> tuple[int, ...]:
    """The shape of one input: the usual size if `native`, otherwise a small one at which the same code runs."""
    name = name.removeprefix("quantized_")
    if name in (_NATIVE if native else _SMALL):
        return (_NATIVE if native else _SMALL)[name]
    if name in VIDEO:
        if native:
            return (3, 16, 112, 112)
        return (3, 8, 64, 64) if name.startswith("swin") else (3, 4, 32, 32)
    if name in BACKBONES or name in SEGMENTATION:
        return (3, 512, 512) if native else (3, 96, 96)
    if name in OPTICAL_FLOW:
        return (3, 520, 960) if native else (3, 128, 128)
    if native:
        return (3, 224, 224)
    if name.startswith("swin"):
        return (3, 112, 112)  # smaller images fit in one window, without shifts
    return (3, 64, 64) if not name.startswith("vit_h") else (3, 56, 56)


def _resized(network: Callable[..., nn.Module], sides: tuple[int, ...], frames: int) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        return network(**options | {"spatial_size": sides, "temporal_size": frames})

    return build


def build(name: str, native: bool = False) -> nn.Module:
    """Build a network with random weights for inputs of `shape`, with torch's default dtype and device."""
    options: dict[str, Any] = {}
    base = name.removesuffix(".backbone")
    if name.endswith(("googlenet", "inception_v3")):
        options["init_weights"] = False
    if name in SEGMENTATION or base in DETECTION:
        options["weights_backbone"] = None
    if name in SEGMENTATION and not name.startswith("lraspp"):
        options["aux_loss"] = True
    if name.startswith("vit"):
        options["image_size"] = shape(name, native)[-1]
    frames, *sides = shape(name, native)[1:] if name in VIDEO else (0,)
    code = models.video.mvit
    with mock.patch.object(code, "MViT", _resized(code.MViT, tuple(sides), frames)):
        model = models.get_model(base, **options)
    if name == "s3d" and not native:
        model.avgpool = nn.AvgPool3d(2, stride=1)  # 7×7 otherwise
    return model.backbone if name in BACKBONES else model


def example(name: str, native: bool = False, batch: int = 1, seed: int = 0) -> tuple[Any, ...]:
    """Example arguments: images; for optical flow, two batches and the number of refinements."""
    generator = torch.Generator().manual_seed(seed)

    def images() -> Tensor:
        return torch.randn(batch, *shape(name, native), generator=generator, device="cpu").to(
            torch.get_default_device()
        )

    return (images(), images(), 2) if name in OPTICAL_FLOW else (images(),)


def distinct_example(name: str, seed: int = 0) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network for small images with distinct weights, and arguments for a batch of two, in double precision.

    Training mode is deterministic, and does not update running statistics.
    """
    torch.manual_seed(seed)
    model = make_weights_distinct(build(name).double()).eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.momentum = 0.0
    inputs = example(name, batch=2, seed=seed + 2)
    return model, tuple(x.double() if isinstance(x, Tensor) else x for x in inputs)
