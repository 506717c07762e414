"""What is known of a device of other machines."""

from __future__ import annotations

import attrs


@attrs.frozen
class RemoteDevice:
    """A device of other machines, which this one may lack; `type` and `index` are those of a torch device.

    chip: the name of its GPU or processor.
    """

    type: str
    fast_bf16: bool
    tf32: bool
    chip: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type
