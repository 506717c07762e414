"""One image file as pixels: 8 bits as they are, deeper ones as numbers to be scaled, transparency on white."""

from __future__ import annotations

import io
import warnings

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line

#: Pillow's modes of one channel with more than 8 bits.
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


@attrs.frozen(eq=False)
class ValueRange:
    """The lowest and the highest value of a deep image; whole numbers, or any."""

    low: float
    high: float
    whole: bool


@attrs.frozen
class ImageFacts:
    """An image without its pixels; see DecodedImage."""

    height: int
    width: int
    grey: bool
    deep: ValueRange | None = None
    blended: bool = False


@attrs.frozen(eq=False)
class DecodedImage:
    """Pixels [H, W, C] of an image: uint8, or float32 with `deep`, its range of values before it was resized.

    grey: it has one channel. blended: it had transparent pixels.
    """

    pixels: NDArray[np.generic]
    grey: bool
    deep: ValueRange | None = None
    blended: bool = False

    @property
    def facts(self) -> ImageFacts:
        """What is known of it besides its pixels."""
        height, width = self.pixels.shape[:2]
        return ImageFacts(height, width, self.grey, self.deep, self.blended)


def decode(name: str, content: bytes, size: int) -> DecodedImage:
    """Decode an image and resize it to `size` pixels per side (0: leave its size).

    Raises TickdslError if it cannot be decoded, or declares so many pixels that Pillow takes it for an attack.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and of slightly damaged images
            with Image.open(io.BytesIO(content)) as image:
                return _deep(image, size) if image.mode in _DEEP_MODES else _shallow(image, size)
    except Exception as error:  # Pillow's decoders raise anything for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError) or reason.startswith("invalid literal"):
            reason = "it is damaged, or not an image"  # the second is what Python says of a header that holds no number
        raise TickdslError(f"cannot read the image {printable_line(name)}: {reason}", "repair or delete it") from error


def _shallow(image: Image.Image, size: int) -> DecodedImage:
    grey = image.mode in ("1", "L", "LA", "La")
    blended = image.has_transparency_data and _is_transparent(image)
    if blended:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    converted = _resize(image.convert("L" if grey else "RGB"), size)
    pixels = np.asarray(converted).reshape(converted.height, converted.width, 1 if grey else 3)
    return DecodedImage(pixels, grey, blended=blended)


def _is_transparent(image: Image.Image) -> bool:
    return bool(np.asarray(image.convert("RGBA").getchannel("A")).min() < 255)


def _deep(image: Image.Image, size: int) -> DecodedImage:
    if image.has_transparency_data:
        raise ValueError("transparency in an image of more than 8 bits is not supported")
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it contains values that are not finite")
    deep = ValueRange(float(values.min()), float(values.max()), whole=image.mode != "F")
    resized = _resize(Image.fromarray(values.astype(np.float32)), size)
    return DecodedImage(np.asarray(resized)[:, :, None], grey=True, deep=deep)


def _resize(image: Image.Image, size: int) -> Image.Image:
    if not size or image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


@attrs.frozen
class Scale:
    """How values of deep images become 0 to 255, the same for all images of a data set."""

    low: float
    high: float

    @staticmethod
    def of(ranges: list[ValueRange]) -> Scale:
        """The scale for images with these ranges.

        Whole numbers from 0 up begin at 0 and end at the highest number of as many bits (at least 8), so 12 bits in a
        file of 16 keep their precision. Others begin at the lowest value and end at the highest.
        """
        low, high = min(each.low for each in ranges), max(each.high for each in ranges)
        if low >= 0 and all(each.whole for each in ranges):
            return Scale(0, (1 << max(8, int(high).bit_length())) - 1)
        return Scale(low, high)

    def apply(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Values as uint8; those beyond the scale become 0 or 255."""
        shares = (values.astype(np.float64) - self.low) / ((self.high - self.low) or 1)
        scaled: NDArray[np.uint8] = np.rint(np.clip(shares, 0, 1) * 255).astype(np.uint8)
        return scaled
