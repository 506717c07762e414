"""The base of modes that see every operator of torch."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Like TorchDispatchMode, for modes under which nothing is compiled.

    torch keeps Dynamo out of the others, for which it imports Dynamo at the first operator: two seconds of CPU time.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
