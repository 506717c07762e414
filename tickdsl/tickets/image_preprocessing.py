"""What a network's images go through before they reach it, as in the training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tickdsl.errors import TickdslError
from tickdsl.tickets.channel_preprocessing import ChannelPreprocessing
from tickdsl.training.catalogue.input_shapes import shape_in_words
from tickdsl.training.data.preprocess import Normalise
from tickdsl.training.rng import generator

if TYPE_CHECKING:
    from PIL.Image import Image


@attrs.frozen
class Preprocessing(ChannelPreprocessing):
    """Images of `channels` × `height` × `width`, normalised per channel.

    mean, std: of the training images, one number per channel, with pixel values scaled to [0, 1].
    """

    #: The name of the input in exported files, and what one is called.
    input_name, unit = "images", "image"

    @property
    def in_words(self) -> str:
        """The inputs for people: `images of 1×8×8`."""
        return f"images of {shape_in_words(self.shape)}"

    def file_input(self, stored: Tensor) -> Tensor:
        """What exported files take, of images uint8 [N, C, H, W] as a data set stores them: float32 in [0, 1]."""
        return stored.float() / 255

    def random(self, count: int) -> Tensor:
        """Random images as a data set stores them, the same each time: uint8 [count, C, H, W]."""
        shape = (count, *self.shape)
        return torch.randint(0, 256, shape, generator=generator(0, "verification"), dtype=torch.uint8)

    def fixed(self, count: int) -> Tensor:
        """Images that are the same everywhere, as a data set stores them: uint8 [count, C, H, W]."""
        return self.fixed_levels(count).to(torch.uint8)

    def __call__(self, images: Tensor | np.ndarray[Any, Any] | Image | Sequence[Any]) -> Tensor:
        """Prepare images as the training did: float32 [N, C, H, W], or [1, C, H, W] for a single image.

        images: a Pillow image or a sequence of them; or a tensor or array [N, C, H, W] or [C, H, W], uint8, or floats
        in [0, 1]. Images of another size are resized, and grey ones repeated in the channels of the network.

        Raises TickdslError for images of another kind.
        """
        pixels = self._as_batch(images)
        pixels = self._resized(self._with_channels(pixels))
        if pixels.dtype == torch.uint8:
            mean, std = torch.tensor(self.mean), torch.tensor(self.std)
            return Normalise(mean, std, pixels.device)(pixels)
        return self.normalize(pixels)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise float images in [0, 1] of the right size: [N, C, H, W]."""
        mean, std = (
            torch.tensor(values, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
            for values in (self.mean, self.std)
        )
        return (images - mean) / std

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**attrs.asdict(self), "mean": list(self.mean), "std": list(self.std)}

    def _as_batch(self, images: Any) -> Tensor:
        """Images as a tensor [N, C, H, W]."""
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(np.ascontiguousarray(images))
        if not isinstance(images, Tensor):
            pictures = list(images) if isinstance(images, Sequence) else [images]
            if not pictures:
                raise TickdslError("no images to prepare", "pass one image or more")
            return torch.cat([self._of_pillow(picture) for picture in pictures])
        batch = images.unsqueeze(0) if images.dim() == 3 else images
        if batch.dim() != 4:
            raise TickdslError(
                f"images must be [N, C, H, W] or [C, H, W]; these are {list(images.shape)}",
                "add the dimensions that are missing, such as `images.unsqueeze(0)`",
            )
        if batch.dtype != torch.uint8 and not batch.is_floating_point():
            name = str(batch.dtype).removeprefix("torch.")
            raise TickdslError(f"images must be uint8, or floats in 0 to 1; these are {name}", "convert them first")
        return batch

    def _of_pillow(self, image: Any) -> Tensor:
        """A Pillow image as uint8 [1, C, H, W], resized; transparent pixels on white."""
        from PIL import Image

        if not isinstance(image, Image.Image):
            raise TickdslError(
                f"images must be tensors, arrays or Pillow images, not {type(image).__name__}",
                "open a file with `PIL.Image.open(path)`",
            )
        if image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        grey = self.channels == 1 or image.mode in ("1", "L", "LA", "La")
        image = image.convert("L" if grey else "RGB")
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        pixels = np.array(image).reshape(self.height, self.width, -1)
        return self._with_channels(torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0))

    def _with_channels(self, batch: Tensor) -> Tensor:
        if batch.shape[1] == self.channels:
            return batch
        if batch.shape[1] == 1:
            return batch.expand(-1, self.channels, -1, -1)
        raise TickdslError(
            f"the network takes images of {self.channels} channels; these have {batch.shape[1]}",
            "convert the images, e.g. with Pillow's `image.convert('L')`",
        )

    def _resized(self, batch: Tensor) -> Tensor:
        size = (self.height, self.width)
        if tuple(batch.shape[2:]) == size:
            return batch
        resized = F.interpolate(batch.float(), size=size, mode="bilinear", antialias=True)
        return resized.round_().byte() if batch.dtype == torch.uint8 else resized.to(batch.dtype)
