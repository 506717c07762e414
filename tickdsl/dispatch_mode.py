"""The base of modes that see every operator of torch."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Like TorchDispatchMode, for modes that need not be kept from Dynamo.

    To keep it out of the others, torch imports Dynamo at their first operator, which takes as long as importing torch.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
