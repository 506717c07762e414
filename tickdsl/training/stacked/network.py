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
                layer.register_forward_pre_hook(_cast_inputs)
                layer.register_forward_hook(_cast_outputs)
        member_tensors = [_tensors(member) for member in members]
        for name, tensor in _tensors(self.one).items():
            tensor.data = _stack([tensors[name] for tensors in member_tensors])
            for index, tensors in enumerate(member_tensors):
                tensors[name].data = tensor.data[index]

    def forward(self, images: Tensor) -> Tensor:
        """Scores [B, K, classes] of pictures [B, K, C, H, W], each network its own, or [B, C, H, W], all the same."""
        images_dim = 1 if images.dim() == 5 else None
        logits: Tensor = torch.vmap(self._forward_one, in_dims=(0, images_dim), out_dims=1)(_tensors(self.one), images)
        return logits

    def _forward_one(self, state: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.one, dict(state), (images,))
        return logits


def _cast_inputs(layer: _NormBase, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Side by side, statistics and pictures of batch norms must be of one type, which those of autocast are not."""
    (images,) = inputs
    layer._input_dtype = images.dtype  # type: ignore[assignment]
    return inputs if layer.running_mean is None else (images.to(layer.running_mean.dtype),)


def _cast_outputs(layer: _NormBase, inputs: tuple[Tensor], normalised: Tensor) -> Tensor:
    return normalised.to(layer._input_dtype)  # type: ignore[arg-type]


def unstack(member: nn.Module) -> None:
    """Give a network that was stacked memory of its own."""
    for tensor in _tensors(member).values():
        tensor.data = tensor.data.clone()


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """[K, …], each share laid out in memory as the first tensor."""
    strides = tensors[0].stride()
    stacked = torch.empty_strided(
        (len(tensors), *tensors[0].shape), (tensors[0].numel(), *strides),
        dtype=tensors[0].dtype, device=tensors[0].device,
    )  # fmt: skip
    with torch.no_grad():
        for share, tensor in zip(stacked, tensors, strict=True):
            share.copy_(tensor)
    return stacked
