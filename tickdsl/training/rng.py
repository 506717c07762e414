"""Named random streams: each use of randomness has its own generator, derived from the run's seed and its role.

No use shares a generator with another, so adding one does not change the numbers that the others draw.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *roles: str | int) -> int:
    """A 63-bit seed for one role: the first bits of the SHA-256 of the run's seed and the role."""
    words = [f"{type(role).__name__}:{role}" for role in (seed, *roles)]
    digest = hashlib.sha256("\x00".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *roles: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator for one role; the default, on the CPU, draws the same numbers whatever the training device."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *roles))
