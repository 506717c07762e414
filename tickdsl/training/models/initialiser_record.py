"""Records how the code of a network initialises its parameters, so that a smaller network can be initialised alike.

A network that is not tickdsl's own is initialised by its constructor, at full width. Slices of such weights are too
small for a network with fewer filters: they were drawn for the fan-in of the whole one. So the initialisers that the
constructor calls are recorded, by parameter, to be called again on the pruned shapes.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tickdsl.dispatch_mode import DispatchMode

#: Initialisers of `torch.nn.init` that need nothing but the shape: called again, they fit the new one.
_FITS_SHAPE = frozenset(
    {
        "kaiming_normal_",
        "kaiming_uniform_",
        "xavier_normal_",
        "xavier_uniform_",
        "orthogonal_",
        "sparse_",
        "dirac_",
        "eye_",
        "constant_",
        "ones_",
        "zeros_",
    }
)
_CONSTANTS = frozenset({"constant_", "ones_", "zeros_", "dirac_", "eye_"})
_RESET_METHODS = ("reset_parameters", "_reset_parameters")
#: Operators that overwrite a whole tensor; all others that write to one keep something of it.
_OVERWRITES = frozenset({"fill_", "zero_", "copy_", "normal_", "uniform_"})
_COPIES = frozenset({"clone", "_to_copy", "copy_"})


@attrs.frozen
class Origin:
    """How a parameter got its initial values.

    `init`: by `torch.nn.init.<function>(parameter, **arguments)`, which fits any shape. `reset`: by the method
    `function` of the module that owns it. `drawn`: from random numbers whose size the code states as a number, or
    computes by itself. `given`: from values that are not random, such as a file's.
    """

    kind: Literal["init", "reset", "drawn", "given"]
    function: str = ""
    arguments: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def is_random(self) -> bool:
        """Whether the values are random numbers."""
        return self.kind in ("drawn", "reset") or (self.kind == "init" and self.function not in _CONSTANTS)


_GIVEN, _DRAWN = Origin("given"), Origin("drawn")


class InitialisationRecorder(DispatchMode):
    """Records the origin of every tensor that is created within the context.

    Tensors are told apart by their storages, since initialisers write to views (`weight.data.normal_()`).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._origins: dict[int, Origin] = {}

    def origins(self, module: nn.Module) -> dict[str, Origin]:
        """The origin of each parameter of a module that was created within the context."""
        return {name: self._origins.get(_storage(p), _GIVEN) for name, p in module.named_parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        read = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        draws = torch.Tag.nondeterministic_seeded in func.tags
        if func._schema.is_mutable:
            for written in _written(func, args, kwargs or {}):
                self._origins[_storage(written)] = self._origin_of_write(name, written, args, draws)
            return result
        for leaf in tree_leaves(result):
            # Storages of the arguments are views of them; others are new, and may have the address of a freed one.
            if isinstance(leaf, Tensor) and _storage(leaf) not in read:
                self._origins[_storage(leaf)] = self._origin_of_result(name, args, read, draws)
        return result

    def _origin_of_result(self, name: str, args: Any, read: set[int], draws: bool) -> Origin:
        if name in _COPIES:
            return self._origins.get(_storage(args[0]), _GIVEN)
        return _DRAWN if draws or any(self._is_random(storage) for storage in read) else _GIVEN

    def _origin_of_write(self, name: str, written: Tensor, args: Any, draws: bool) -> Origin:
        storage = _storage(written)
        is_whole = written.numel() * written.element_size() == written.untyped_storage().nbytes()
        if (origin := _initialiser(storage)) is not None and is_whole:
            return origin
        if name == "copy_" and is_whole:
            return self._origins.get(_storage(args[1]), _GIVEN) if isinstance(args[1], Tensor) else _GIVEN
        if name in ("fill_", "zero_") and is_whole and isinstance(args[1] if len(args) > 1 else 0, int | float):
            return Origin("init", "constant_", {"val": args[1] if len(args) > 1 else 0})
        keeps = not (name in _OVERWRITES and is_whole)
        return _DRAWN if draws or (keeps and self._is_random(storage)) else _GIVEN

    def _is_random(self, storage: int) -> bool:
        return self._origins.get(storage, _GIVEN).is_random


def _storage(tensor: Tensor) -> int:
    """What identifies the memory of a tensor while it lives."""
    return int(tensor.untyped_storage()._cdata)


def _written(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """The arguments that an operator writes to."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _initialiser(storage: int) -> Origin | None:
    """The initialiser that is running on a parameter: a function of `torch.nn.init`, or a method of its module."""
    function: Origin | None = None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == nn.init.__file__ and not code.co_name.startswith("_"):
            function = _init_call(frame, storage) or function
        elif code.co_name in _RESET_METHODS and _owns(frame.f_locals.get("self"), storage):
            return function if _fits_shape(function) else Origin("reset", code.co_name)
        frame = frame.f_back
    return function if _fits_shape(function) else None


def _fits_shape(origin: Origin | None) -> bool:
    return origin is not None and origin.function in _FITS_SHAPE


def _init_call(frame: FrameType, storage: int) -> Origin | None:
    name = frame.f_code.co_name
    function = getattr(nn.init, name, None)
    if function is None:
        return None
    parameters = list(inspect.signature(function).parameters)
    values = frame.f_locals
    if not isinstance(subject := values.get(parameters[0]), Tensor) or _storage(subject) != storage:
        return None
    return Origin("init", name, {word: values[word] for word in parameters[1:] if word != "generator"})


def _owns(module: object, storage: int) -> bool:
    return isinstance(module, nn.Module) and any(
        parameter is not None and _storage(parameter) == storage for parameter in module._parameters.values()
    )
