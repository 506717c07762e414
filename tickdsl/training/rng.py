"""Randomness from named streams: each use has its own generator, derived from the run's seed and its role.

Nothing seeds a global generator, so adding a use of randomness anywhere moves no other draw.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *roles: str | int) -> int:
    """A 63-bit seed for one role: the start of SHA-256 over the run's seed and the role's words."""
    words = [f"{type(role).__name__}:{role}" for role in (seed, *roles)]
    digest = hashlib.sha256("\x00".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *roles: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator for one role. CPU generators draw the same numbers for every training device."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, *roles))
