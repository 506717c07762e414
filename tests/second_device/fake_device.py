"""A fake second device: its tensors are computed on the CPU, but have the restrictions of GPU tensors.

Its tensors do not mix with CPU tensors, CPU generators cannot draw them, and reading a number waits for the device,
which is counted. So code that forgets to move a tensor fails on machines without a GPU, too. Importing this module
registers the device, which torch cannot undo, so import it only in a process of its own.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
#: How often code waited for the device, by operator.
SYNC_COUNTS: Counter[str] = Counter()

_CPU = torch.device("cpu")
#: Operators that accept tensors of both devices.
_CROSS_DEVICE_OPS = {"copy_", "_to_copy"}
_SYNCING_OPS = {"_local_scalar_dense", "nonzero"}


class _DeviceModule:
    """The functions that torch expects of a device module."""

    is_initialized = is_available = staticmethod(lambda: True)
    _lazy_init = staticmethod(lambda: None)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


_setup_privateuseone_for_python_backend(NAME, _DeviceModule)
DEVICE = torch.device(NAME, 0)


class MixedDevicesError(RuntimeError):
    """An operator got tensors of two devices."""


class FakeDeviceTensor(Tensor):
    """A tensor on the second device; `cpu_tensor` has its values."""

    cpu_tensor: Tensor

    @staticmethod
    def __new__(cls, cpu_tensor: Tensor) -> FakeDeviceTensor:
        wrapper: FakeDeviceTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, cpu_tensor.size(), strides=cpu_tensor.stride(), storage_offset=cpu_tensor.storage_offset(),
            dtype=cpu_tensor.dtype, layout=cpu_tensor.layout, device=DEVICE,
        )  # fmt: skip
        wrapper.cpu_tensor = cpu_tensor
        return wrapper

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.tolist:
            return args[0].cpu().tolist()
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            args[0].cpu_tensor = args[1].cpu_tensor
        return result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _DispatchAll(TorchDispatchMode):
    """Also intercepts operators that create tensors or move them to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


@contextmanager
def fake_device() -> Iterator[None]:
    """A context in which tensors can be on the second device."""
    fused = _foreach_utils._get_fused_kernels_supported_devices
    with pytest.MonkeyPatch.context() as patch, _DispatchAll():
        for name, module in list(sys.modules.items()):
            if name.startswith("torch.") and hasattr(module, fused.__name__):
                patch.setattr(module, fused.__name__, lambda: [*fused(), NAME])
        patch.setattr(torch, "inference_mode", torch.no_grad)  # wrapper subclasses do not support it
        yield


def _call(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    name, target = func.overloadpacket.__name__, kwargs.get("device")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    fake_tensors = [tensor for tensor in tensors if isinstance(tensor, FakeDeviceTensor)]
    returns_fake = bool(fake_tensors) if target is None else torch.device(target).type == NAME
    if (
        name not in _CROSS_DEVICE_OPS
        and fake_tensors
        and any(tensor.dim() for tensor in tensors if not isinstance(tensor, FakeDeviceTensor))
    ):
        raise MixedDevicesError(f"{func} got {[(type(tensor).__name__, *tensor.shape) for tensor in tensors]}")
    if returns_fake and kwargs.get("generator") is not None:
        raise MixedDevicesError(f"{func} draws from a CPU generator")
    if fake_tensors and (name in _SYNCING_OPS or (name == "_to_copy" and not returns_fake)):
        SYNC_COUNTS[name] += 1
    cpu_kwargs = tree_map(_unwrap, dict(kwargs))
    if target is not None:
        cpu_kwargs["device"] = _CPU if returns_fake else target
    result = func(*tree_map(_unwrap, args), **cpu_kwargs)
    if isinstance(result, Tensor) and func._schema.is_mutable and name.endswith("_"):
        return args[0]
    return tree_map(_wrap_results(fake_tensors), result) if returns_fake else result


def _unwrap(value: object) -> object:
    return value.cpu_tensor if isinstance(value, FakeDeviceTensor) else value


def _wrap_results(inputs: list[FakeDeviceTensor]) -> Callable[[object], object]:
    """A function that wraps results as fake tensors; an input that an operator returns stays the same object."""
    fake_by_id = {id(tensor.cpu_tensor): tensor for tensor in inputs}

    def wrap(value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        return fake_by_id[id(value)] if id(value) in fake_by_id else FakeDeviceTensor(value)

    return wrap
