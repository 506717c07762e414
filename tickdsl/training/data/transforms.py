"""Augmentations of torchvision and of one's own, image by image, each with random numbers of its own.

Every image of an epoch has a seed, drawn in advance; all generators that a transform could draw from are set to it
before each call, so that an image comes out the same whenever, and beside whichever images, it is augmented.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from tickdsl.errors import TickdslError
from tickdsl.plugins import Call, Plugin, PluginError, call_plugin, load_plugin, require_plugin, type_in_words
from tickdsl.training.recipes.augmentations import TORCHVISION_TRANSFORMS
from tickdsl.training.rng import stream_seed
from tickdsl.training.tasks import UNLABELLED
from tickdsl.training.torchvision_import import import_torchvision

#: How often a transform is tried before it is trained with.
_TRIALS = 8
#: numpy's generator takes seeds of 32 bits.
_NUMPY_SEEDS = 1 << 32


@attrs.frozen
class ImageTransform:
    """One augmentation. plugin: None for one of torchvision, which also moves masks."""

    text: str
    apply: Callable[..., Any]
    plugin: Plugin | None

    def __call__(self, *arguments: Any) -> Any:
        """The result of the augmentation. Raises TickdslError if it fails."""
        if self.plugin is not None:
            return call_plugin(self.plugin, self.apply, *arguments)
        try:
            return self.apply(*arguments)
        except Exception as error:
            raise _unfit(self.text, error) from error


def find_transform(text: str) -> ImageTransform:
    """The augmentation with this name and options. Raises TickdslError if it cannot be made."""
    call = Call.parse(text)
    if call.name in TORCHVISION_TRANSFORMS:
        import_torchvision()
        made = getattr(importlib.import_module("torchvision.transforms.v2"), call.name)
        try:
            return ImageTransform(text, made(**call.options), None)
        except Exception as error:
            raise _unfit(text, error) from error
    plugin = require_plugin("augmentation", call.name)
    target = load_plugin(plugin)
    if not callable(target):
        raise PluginError(f"`{text}` is {type_in_words(target)}, not an augmentation", "name a function of an image")
    made = call_plugin(plugin, target, **call.options) if isinstance(target, type) else partial(target, **call.options)
    return ImageTransform(text, made, plugin)


def _unfit(text: str, error: Exception) -> TickdslError:
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return TickdslError(f"augment={text}: {said}", "see its options in torchvision.transforms.v2")


class ImageTransforms:
    """Applies augmentations, one after another."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._transforms = [find_transform(text) for text in texts]

    def require_fit(self, images: Tensor, *, masks: bool) -> None:
        """Raise TickdslError unless the augmentations can change such images [N, …] and, if any, their masks."""
        for transform in self._transforms:
            if images.dtype != torch.uint8 and transform.plugin is None:
                raise TickdslError(
                    f"augment={transform.text}: it is for images of bytes, but those of the data are {images.dtype}",
                    "leave it out",
                )
            if masks and transform.plugin is not None:
                raise TickdslError(
                    f"augment={transform.text}: it would change images without their masks",
                    "use augmentations of tickdsl or torchvision",
                )
        seeds = [stream_seed(0, "trial", number) for number in range(_TRIALS)]
        trials = images[:1].expand(_TRIALS, *images.shape[1:])
        self.images(trials, seeds)
        if masks:
            self.masks(trials[:, :1].byte(), seeds)

    def images(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """The augmented images [B, C, H, W], each by its own seed."""
        with _own_generators(images.device):
            return torch.stack([self._image(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _image(self, image: Tensor, seed: int) -> Tensor:
        for number, transform in enumerate(self._transforms):
            _seed_all(stream_seed(seed, number), image.device)
            changed = transform(image)
            if not isinstance(changed, Tensor) or changed.shape != image.shape or changed.dtype != image.dtype:
                found = (
                    f"{changed.dtype} {list(changed.shape)}" if isinstance(changed, Tensor) else type_in_words(changed)
                )
                raise TickdslError(
                    f"augment={transform.text}: it makes {found} of an image {image.dtype} {list(image.shape)}",
                    "an augmentation keeps the shape and the type of an image",
                )
            image = changed
        return image

    def masks(self, masks: Tensor, seeds: Sequence[int]) -> Tensor:
        """The masks uint8 [B, 1, H, W], moved as `images` moves their images; unlabelled where an image ends."""
        from torchvision import tv_tensors  # `find_transform` has imported it

        moved = []
        with _own_generators(masks.device):
            for mask, seed in zip(masks, seeds, strict=True):
                image = tv_tensors.Image(torch.zeros_like(mask))
                parts = tv_tensors.Mask(mask), tv_tensors.Mask(torch.ones_like(mask))
                for number, transform in enumerate(self._transforms):
                    _seed_all(stream_seed(seed, number), mask.device)
                    _, *parts = transform(image, *parts)
                there = parts[1].as_subclass(Tensor) == 1
                moved.append(parts[0].as_subclass(Tensor).masked_fill(~there, UNLABELLED))
        return torch.stack(moved)


@contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """Restore the global generators on exit."""
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def _seed_all(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)
