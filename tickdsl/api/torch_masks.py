"""The masks of `torch.nn.utils.prune`: taken off a network before it is traced, and put on the one that is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from tickdsl.errors import TickdslError
from tickdsl.graph.arrays import BoolArray
from tickdsl.graph.tracing.module_copy import deepcopy_model


def masked_tensors(module: nn.Module) -> dict[int, str]:
    """The names of a module's own tensors that are masked, by the key of the hook that masks them."""
    return {
        key: str(hook._tensor_name)
        for key, hook in module._forward_pre_hooks.items()
        if isinstance(hook, torch_prune.BasePruningMethod)
    }


def has_masks(model: nn.Module) -> bool:
    """Whether a tensor of the network is masked by `torch.nn.utils.prune`."""
    return any(masked_tensors(module) for module in model.modules())


def copy_without_masks(model: nn.Module) -> tuple[nn.Module, dict[str, BoolArray]]:
    """Copy a network without its masks: the copy with the unmasked values, and the masks by parameter name.

    Raises TickdslError if a shared parameter is masked in one module, and read without that mask in another.
    """
    memo = {
        # The product of the values and the mask belongs to a graph of autograd, and so cannot be copied.
        id(product): product.detach().clone()
        for module in model.modules()
        for name in masked_tensors(module).values()
        if isinstance(product := module.__dict__.get(name), Tensor)
    }
    copied = deepcopy_model(model, memo)
    masks: dict[str, BoolArray] = {}
    for path, module in copied.named_modules():
        for key, name in masked_tensors(module).items():
            values = module._parameters.pop(f"{name}_orig")
            mask = module._buffers.pop(f"{name}_mask")
            assert values is not None and mask is not None
            del module._forward_pre_hooks[key]
            del module.__dict__[name]
            module.register_parameter(name, values)
            masks[f"{path}.{name}" if path else name] = mask.detach().bool().cpu().numpy()
    _require_equal_masks(copied, masks)
    return copied, masks


def _require_equal_masks(model: nn.Module, masks: Mapping[str, BoolArray]) -> None:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    modules = {id(module): path for path, module in model.named_modules()}
    for shared in names.values():
        # A module under several names has one mask, under its first name.
        first_names = {_first_name(model, modules, name) for name in shared}
        masked = [name for name in first_names if name in masks]
        if masked and not all(name in masks and np.array_equal(masks[name], masks[masked[0]]) for name in first_names):
            raise TickdslError(
                f"`{masked[0]}` is masked, but shared with a module that reads it without this mask",
                "mask it in all modules, with the same mask",
            )


def _first_name(model: nn.Module, modules: Mapping[int, str], name: str) -> str:
    path, _, tensor = name.rpartition(".")
    first = modules[id(model.get_submodule(path))]
    return f"{first}.{tensor}" if first else tensor


def attach_masks(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Mask parameters of a network with `torch.nn.utils.prune`, in all modules that share them.

    Masked weights are zero in every forward pass, whatever an optimiser does to the values behind them.
    """
    parameters = dict(model.named_parameters())
    by_identity = {id(parameters[name]): mask for name, mask in masks.items() if not bool(mask.all())}
    for module, name, parameter in list(_own_parameters(model)):
        mask = by_identity.get(id(parameter))
        if mask is not None:
            with torch.no_grad():  # the product is a leaf, so that the network can be copied
                torch_prune.custom_from_mask(module, name, mask.to(parameter))  # type: ignore[no-untyped-call]


def _own_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield module, name, parameter


def unmasked_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a network by the names that they have without masks, and with their values."""
    renamed: dict[str, str] = {}
    masks: set[str] = set()
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for name in masked_tensors(module).values():
            renamed[f"{prefix}{name}_orig"] = f"{prefix}{name}"
            masks.add(f"{prefix}{name}_mask")
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }
    return {renamed.get(name, name): tensor for name, tensor in tensors.items() if name not in masks}
