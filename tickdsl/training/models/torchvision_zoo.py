"""torchvision's networks, with random weights."""

from __future__ import annotations

import inspect

import torch
from torch import nn

from tickdsl.training.catalogue import TORCHVISION_PREFIX, TORCHVISION_SEGMENTATION
from tickdsl.training.rng import stream_seed
from tickdsl.training.torchvision_import import import_torchvision

#: Networks are always built with torchvision's default number of classes, so that the weights before the classifier are
#: the same for every data set.
_NUM_CLASSES = 1000


def build(name: str, shape: tuple[int, ...], seed: int) -> nn.Module:
    """Build a network of torchvision's registry, initialised by its constructor, with 1000 outputs, or 21 for pixels.

    GoogLeNet and Inception are built without auxiliary classifiers, vision transformers for the data's image size.
    """
    import_torchvision()
    from torchvision.models import get_model, get_model_builder

    name = name.removeprefix(TORCHVISION_PREFIX)
    if name in TORCHVISION_SEGMENTATION:
        from tickdsl.training.models import torchvision_segmentation

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed(seed, "init"))
            return torchvision_segmentation.build(name)
    kwargs: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        kwargs.update(aux_logits=False, init_weights=True)
    if name.startswith("vit_"):
        kwargs["image_size"] = shape[1]
    if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters:
        kwargs["weights_backbone"] = None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        module: nn.Module = get_model(name, weights=None, num_classes=_NUM_CLASSES, **kwargs)
    return module
