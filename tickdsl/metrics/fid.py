"""The Fréchet inception distance of generated images, with the weights of Inception v3 that a plan names.

The network is torchvision's Inception v3, with its 2048 features before the classifier; images are repeated in three
channels if they are grey, resized to 299 pixels per side, and normalised as torchvision's weights need it. Heusel et
al. (2017) use TensorFlow's weights: distances are comparable among networks that were measured with the same file only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.loop import isolated_rng
from tickdsl.training.tasks.frechet import Moments, frechet_distance, moment_sums
from tickdsl.training.torchvision_import import import_torchvision

FID = "fid"
_SIDE, _BATCH = 299, 50
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The seed of the noise that images are made of.
_NOISE_SEED = 0


def measure_fid(
    model: nn.Module,
    data: Dataset,
    features: Callable[[Tensor], Tensor],
    device: torch.device,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The distance between as many generated images as there are test images, and these.

    model: a network whose task makes pictures. features: [N, D] of images uint8 [N, C, H, W]. between: called between
    batches. The model is left in eval mode on `device`.
    """
    model.to(device).eval()
    preprocess = data.preprocess(device)
    sums: list[Tensor] = []
    with torch.no_grad(), isolated_rng(device):
        torch.manual_seed(_NOISE_SEED)
        for images, targets in zip(
            torch.split(data.test_inputs, _BATCH), torch.split(data.test_targets, _BATCH), strict=True
        ):
            between()
            pictures = data.task.pictures(model(preprocess(images.to(device))), targets.to(device))
            if pictures is None:
                raise TickdslError(f"the task `{data.task.name}` makes no images", "leave out `fid`")
            batch = [moment_sums(features(each)).cpu() for each in (pictures, images.to(device))]
            sums.append(torch.stack(batch))
    total = torch.stack(sums).sum(0)
    generated, real = (Moments.from_sums(part.numpy(), len(data.test_inputs)) for part in total)
    return {FID: frechet_distance(generated, real)}


def inception_features(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The features by Inception v3 with the weights in a file. Raises TickdslError if they are others."""
    module = inception_v3()
    try:
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state, strict=True)
    except Exception as error:  # unpickling a damaged file raises anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise TickdslError(
            f"{path} does not hold the weights of torchvision's Inception v3: {reason}",
            "use the file that torchvision downloads for `inception_v3`",
        ) from error
    module.fc = nn.Identity()
    return features_by(module.to(device).eval().requires_grad_(False), device)


def inception_v3() -> nn.Module:
    """torchvision's Inception v3 as its weights have it, with weights that are arbitrary."""
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = import_torchvision().models.inception_v3(
            weights=None, aux_logits=True, transform_input=False, init_weights=False
        )
    return network


def features_by(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The outputs [N, D] of a network for images of photographs, by images uint8 [N, C, H, W]."""
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (_MEAN, _STD))

    def features(images: Tensor) -> Tensor:
        colours = images.float() / 255
        if colours.shape[1] != 3:
            colours = colours[:, :1].expand(-1, 3, -1, -1)
        resized = F.interpolate(colours, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
        with torch.autocast(device.type, enabled=False):
            values: Tensor = network((resized - mean) / std)
        return values

    return features
