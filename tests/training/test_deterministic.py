"""`--deterministic`: only algorithms that give the same bits each time."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from tickdsl.training import devices, training_run


def test_algorithms_are_not_chosen_by_their_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    with devices.deterministic_algorithms(), training_run._cuda_context(torch.device("cuda"), "bf16"):
        assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    with training_run._cuda_context(torch.device("cuda"), "bf16"):
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark
