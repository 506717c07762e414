"""timm's networks, with random weights or those that timm offers."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tickdsl.errors import TickdslError
from tickdsl.plugins import LIBRARIES
from tickdsl.training.catalogue import DEFAULT_WEIGHTS, TIMM_FAMILY
from tickdsl.training.catalogue.input_shapes import OneShape, shape_in_words
from tickdsl.training.models.offline import first_line, no_download
from tickdsl.training.rng import stream_seed
from tickdsl.training.torchvision_import import import_torchvision


def build(name: str, classes: int, shape: OneShape, seed: int, options: Mapping[str, Any]) -> nn.Module:
    """Build `timm.NAME` for images of `shape`, initialised by its own code.

    All weights but those of the classifier are the same for every number of classes. Raises TickdslError if timm is
    missing or cannot build the network for such images, or if `weights=default` cannot be downloaded.
    """
    timm = _import_timm()
    name = name.removeprefix(f"{TIMM_FAMILY}.")
    pretrained = options.get("weights") == DEFAULT_WEIGHTS
    arguments: dict[str, Any] = {"in_chans": shape[0]}
    if timm.get_pretrained_cfg(name).fixed_input_size:
        arguments["img_size"] = tuple(shape[1:])
    if options.get("dropout"):
        arguments["drop_rate"] = float(options["dropout"])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(seed, "init"))
        try:
            module: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
        except Exception as error:  # its code may raise anything for images that it cannot take
            raise _refused(name, shape, pretrained, error) from error
        torch.default_generator.manual_seed(stream_seed(seed, "head"))
        module.reset_classifier(classes)  # type: ignore[operator]
    return module


def native_shape(name: str) -> OneShape:
    """The shape (C, H, W) of the images that a network was made for. Raises TickdslError if timm is missing."""
    channels, height, width = _import_timm().get_pretrained_cfg(name.removeprefix(f"{TIMM_FAMILY}.")).input_size
    return channels, height, width


def _import_timm() -> ModuleType:
    library = LIBRARIES[TIMM_FAMILY]
    if not library.is_installed:
        raise TickdslError(library.missing.message, library.missing.hint)
    import_torchvision()
    import timm

    module: ModuleType = timm
    return module


def _refused(name: str, shape: OneShape, pretrained: bool, error: Exception) -> TickdslError:
    if pretrained and isinstance(error, OSError | RuntimeError) and "size" not in str(error):
        return no_download(f"{TIMM_FAMILY}.{name}", error)
    return TickdslError(
        f"timm cannot build {name} for images of {shape_in_words(shape, 'x')}: {first_line(error)}",
        "set another size= in `data`, or use another model",
    )
