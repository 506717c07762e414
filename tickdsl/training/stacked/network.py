"""Several networks of equal shape as one module, which runs each layer of all of them as one operation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase

# Global pooling in channels_last and attention on a CPU have no batching rules; their fallbacks cost little.
for _operator in (r"as_strided_\.", "_scaled_dot_product"):
    warnings.filterwarnings("ignore", message=rf".*batching rule for aten::{_operator}")


class StackedNetwork(nn.Module):
    """K networks as one module with parameters and buffers [K, …].

    The members' own parameters and buffers become views of these, so that reading or writing a member's weights reads
    or writes its slice of the stack. The members must have the same class and shapes.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.template = copy.deepcopy(members[0])
        for layer in self.template.modules():
            if isinstance(layer, _NormBase):
                layer.register_forward_pre_hook(_cast_inputs)
                layer.register_forward_hook(_cast_outputs)
        member_tensors = [_tensors(member) for member in members]
        for name, tensor in _tensors(self.template).items():
            tensor.data = _stack([tensors[name] for tensors in member_tensors])
            for index, tensors in enumerate(member_tensors):
                tensors[name].data = tensor.data[index]

    def forward(self, images: Tensor) -> Tensor:
        """The outputs [B, K, …] for images [B, K, C, H, W] or tokens [B, K, T].

        Images [B, C, H, W] and tokens [B, T] are those of all networks.
        """
        images_dim = 1 if images.dim() in (3, 5) else None
        logits: Tensor = torch.vmap(self._forward_member, in_dims=(0, images_dim), out_dims=1)(
            _tensors(self.template), images
        )
        return logits

    def _forward_member(self, state: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.template, dict(state), (images,))
        return logits


def _cast_inputs(layer: _NormBase, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Cast a batch norm's input to the dtype of its statistics: vmap needs them equal, autocast makes them differ."""
    (images,) = inputs
    layer._input_dtype = images.dtype  # type: ignore[assignment]
    return inputs if layer.running_mean is None else (images.to(layer.running_mean.dtype),)


def _cast_outputs(layer: _NormBase, inputs: tuple[Tensor], normalised: Tensor) -> Tensor:
    return normalised.to(layer._input_dtype)  # type: ignore[arg-type]


def unstack(member: nn.Module) -> None:
    """Copy a member's parameters and buffers out of the stack, into memory of their own."""
    for tensor in _tensors(member).values():
        tensor.data = tensor.data.clone()


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack K tensors to [K, …], each with the memory layout of the first."""
    strides = tensors[0].stride()
    stacked = torch.empty_strided(
        (len(tensors), *tensors[0].shape), (tensors[0].numel(), *strides),
        dtype=tensors[0].dtype, device=tensors[0].device,
    )  # fmt: skip
    with torch.no_grad():
        for member_slice, tensor in zip(stacked, tensors, strict=True):
            member_slice.copy_(tensor)
    return stacked
