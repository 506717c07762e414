"""The running statistics of batch norm, computed anew."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tickdsl.training.named_tensors import run_network

#: The training images that statistics are computed on (fewer if there are fewer), and how many of them make a batch.
STATISTICS_IMAGES, STATISTICS_BATCH = 2000, 250

_BatchNorm = nn.modules.batchnorm._BatchNorm


def tracked_norms(module: nn.Module) -> list[_BatchNorm]:
    """The batch norms of a module that keep running statistics."""
    return [
        layer for layer in module.modules() if isinstance(layer, _BatchNorm) and isinstance(layer.running_mean, Tensor)
    ]


def recompute_statistics(module: nn.Module, batches: Iterable[Tensor], autocast: torch.dtype | None = None) -> None:
    """Replace the running statistics of a module by their means over batches of images, in place.

    batches: normalised images [N, C, H, W], on the module's device. Everything else runs in eval mode, so dropout is
    off. The module is left in eval mode. Without batch norm, this does nothing.
    """
    module.eval()
    norms = tracked_norms(module)
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for the mean over all batches
            norm.train()
        with torch.no_grad():
            for images in batches:
                with torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
                    run_network(module, images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
