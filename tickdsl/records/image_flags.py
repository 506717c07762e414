"""One bit per test image, as text: which images a network classifies correctly.

The bits are packed, compressed and written in base64: about 250 characters for 10,000 images at 98% accuracy.
"""

from __future__ import annotations

import base64
import functools
import zlib

_TO_DIGITS = bytes([ord("0"), *[ord("1")] * 255])


def encode_flags(flags: bytes) -> str:
    """The text for one byte per image: zero if it is classified wrongly, any other value if correctly."""
    packed = int(flags.translate(_TO_DIGITS) or b"0", 2).to_bytes((len(flags) + 7) // 8 or 1)
    return base64.b64encode(zlib.compress(packed, 9)).decode()


@functools.lru_cache(maxsize=4096)
def decode_flags(text: str) -> int:
    """The flags as the bits of an integer. Raises ValueError if the text was not written by `encode_flags`."""
    try:
        return int.from_bytes(zlib.decompress(base64.b64decode(text, validate=True)))
    except (ValueError, zlib.error) as error:  # binascii.Error is a ValueError
        raise ValueError(f"no flags of images: {error}") from error
