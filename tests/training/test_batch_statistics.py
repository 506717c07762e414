"""Running statistics of batch norm, computed anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tickdsl.training.batch_statistics import recompute_statistics, tracked_norms


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5, momentum=0.3), nn.Dropout(0.5), nn.ReLU(), nn.Flatten())


def test_statistics_are_the_means_over_the_batches() -> None:
    module = _network().train()
    batches = list(torch.randn(40, 2, 6, 6).split(10))
    for batch in batches[:2]:
        module(batch)
    recompute_statistics(module, batches)
    maps = [module[0](batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(module[1].running_mean, torch.stack([m.mean(1) for m in maps]).mean(0))
    torch.testing.assert_close(module[1].running_var, torch.stack([m.var(1) for m in maps]).mean(0))
    assert not module.training and not module[1].training and module[1].momentum == 0.3


def test_weights_and_the_generator_stay_as_they_are() -> None:
    module = _network()
    weights = {name: p.clone() for name, p in module.named_parameters()}
    before = torch.random.get_rng_state()
    recompute_statistics(module, [torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(1))])
    assert torch.equal(before, torch.random.get_rng_state())  # dropout is off
    assert all(torch.equal(p, weights[name]) for name, p in module.named_parameters())


@pytest.mark.parametrize("module", [nn.Linear(3, 2), nn.BatchNorm1d(3, track_running_stats=False)])
def test_nothing_runs_without_running_statistics(module: nn.Module) -> None:
    assert tracked_norms(module) == []
    recompute_statistics(module, iter(lambda: pytest.fail("a batch was used"), None))
