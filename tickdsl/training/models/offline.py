"""Errors of downloads of pretrained weights."""

from __future__ import annotations

from tickdsl.errors import TickdslError


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def no_download(name: str, error: BaseException) -> TickdslError:
    """The error for pretrained weights of a network that cannot be downloaded."""
    return TickdslError(
        f"cannot download the weights of {name}: {first_line(error)}",
        'download them on another machine and set `weights="model.safetensors"`',
    )
