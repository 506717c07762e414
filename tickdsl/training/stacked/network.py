"""Networks of equal shape as one: each layer of all of them is one operation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

# Global pooling in channels_last lays out its small result picture by picture.
warnings.filterwarnings("ignore", message=r".*batching rule for aten::as_strided_\.")


class StackedNetwork(nn.Module):
    """K networks as one, whose parameters and buffers are [K, …]; those of the networks become views of these.

    So whatever reads or writes a member's weights, reads or writes its share of the whole. The members are of one
    class and equal in all shapes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.one = copy.deepcopy(members[0])
        for layer in self.one.modules():
            if isinstance(layer, _NormBase):
                layer.register_forward_pre_hook(_widened)
                layer.register_forward_hook(_narrowed)
        each = [_tensors(member) for member in members]
        for name, tensor in _tensors(self.one).items():
            tensor.data = _stacked([theirs[name] for theirs in each])
            for place, theirs in enumerate(each):
                theirs[name].data = tensor.data[place]

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores [B, K, classes] of pictures [B, K, C, H, W], each network its own, or [B, C, H, W], all the same."""
        place = 1 if pictures.dim() == 5 else None
        scores: Tensor = torch.vmap(self._one, in_dims=(0, place), out_dims=1)(_tensors(self.one), pictures)
        return scores

    def _one(self, state: Mapping[str, Tensor], pictures: Tensor) -> Tensor:
        scores: Tensor = functional_call(self.one, dict(state), (pictures,))
        return scores


def _widened(layer: _NormBase, given: tuple[Tensor]) -> tuple[Tensor]:
    """Side by side, statistics and pictures of batch norms must be of one type, which those of autocast are not."""
    (pictures,) = given
    layer._narrow = pictures.dtype  # type: ignore[assignment]
    return given if layer.running_mean is None else (pictures.to(layer.running_mean.dtype),)


def _narrowed(layer: _NormBase, given: tuple[Tensor], normalised: Tensor) -> Tensor:
    return normalised.to(layer._narrow)  # type: ignore[arg-type]


def set_apart(member: nn.Module) -> None:
    """Give a network that was stacked memory of its own."""
    for tensor in _tensors(member).values():
        tensor.data = tensor.data.clone()


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """[K, …], each share laid out in memory as the first tensor."""
    strides = tensors[0].stride()
    whole = torch.empty_strided(
        (len(tensors), *tensors[0].shape), (tensors[0].numel(), *strides),
        dtype=tensors[0].dtype, device=tensors[0].device,
    )  # fmt: skip
    with torch.no_grad():
        for share, tensor in zip(whole, tensors, strict=True):
            share.copy_(tensor)
    return whole
