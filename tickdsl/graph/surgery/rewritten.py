"""Classes of rewritten modules: the user's class with another `forward`, which can be copied and pickled."""

from __future__ import annotations

import importlib
import itertools
import linecache
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

import attrs
from torch import Tensor, fx, nn

from tickdsl.errors import TickdslError


class SurgeryError(TickdslError):
    """A network whose code cannot be adapted to the remaining sizes."""


class InputSizeError(TickdslError):
    """An input of a size for which a module's code was not rewritten."""


def require_sizes(value: Any, sizes: tuple[int | None, ...], path: str) -> None:
    """Raise InputSizeError unless a tensor has these sizes; None is any size."""
    if isinstance(value, Tensor) and not isinstance(value, fx.Proxy):
        shape = tuple(value.shape)
        if len(shape) != len(sizes) or any(n is not None and n != m for n, m in zip(sizes, shape, strict=True)):
            expected, actual = (
                "×".join("any" if n is None else str(n) for n in s) or "a scalar" for s in (sizes, shape)
            )
            raise InputSizeError(
                f"`{path}` was rewritten for inputs of {expected}, and got {actual}",
                "trace and compact the network with example inputs of this size",
            )


@attrs.frozen
class ForwardCode:
    """The source of a `forward` method, and the names that it reads; modules are referred to by name."""

    source: str
    names: tuple[tuple[str, Any], ...]

    @classmethod
    def from_graph(cls, graph: fx.Graph) -> ForwardCode:
        """Generate the code of a graph whose `self` is the module."""
        code = graph.python_code("self")
        names = ((n, _ModuleName(v.__name__) if isinstance(v, ModuleType) else v) for n, v in code.globals.items())
        return cls(code.src, tuple(names))

    def compile(self) -> Any:
        """The method as a function. Its source appears in tracebacks."""
        filename = f"<rewritten forward {next(_numbers)}>"
        linecache.cache[filename] = len(self.source), None, self.source.splitlines(keepends=True), filename
        namespace: dict[str, Any] = {name: _resolve(value) for name, value in self.names}
        exec(compile(self.source, filename, "exec"), namespace)
        return namespace["forward"]


@attrs.frozen
class _ModuleName:
    name: str


_numbers = itertools.count()


def _resolve(value: Any) -> Any:
    return importlib.import_module(value.name) if isinstance(value, _ModuleName) else value


def rewrite(module: nn.Module, code: ForwardCode) -> None:
    """Give a module another `forward`; it stays an instance of its class, with its attributes and methods."""
    base: Any = original_class(module)
    module.__class__ = _rewritten_class(base, code)
    if isinstance(module, nn.RNNBase):
        # cuDNN's fused weights need equal sizes in all layers.
        module.flatten_parameters = _do_nothing  # type: ignore[method-assign]


def original_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module, of a rewritten one the class that it had before."""
    return getattr(type(module), "_class_before_rewriting", type(module))


def _do_nothing() -> None:
    pass


@lru_cache(maxsize=256)
def _rewritten_class(base: Any, code: ForwardCode) -> Any:
    attributes: Mapping[str, Any] = {
        "forward": code.compile(),
        "_class_before_rewriting": base,
        "__doc__": base.__doc__,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__reduce_ex__": lambda self, protocol: (_rebuild, (base, code), self.__getstate__()),
    }
    return type(base)(base.__name__, (base,), dict(attributes))


def _rebuild(base: Any, code: ForwardCode) -> Any:
    """An empty instance, for `copy` and `pickle`."""
    rewritten = _rewritten_class(base, code)
    return rewritten.__new__(rewritten)
