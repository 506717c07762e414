"""Plug-ins imported and called: whatever goes wrong in them is said with the place and the way out."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from tickdsl.errors import TickdslError
from tickdsl.plugins import static_description
from tickdsl.plugins.entry_points import Plugin, PluginError, require_plugin
from tickdsl.plugins.source_digest import source_digest
from tickdsl.plugins.static_description import NoSuchName, PluginDescription

T = TypeVar("T")
_PLAIN_TYPES = (bool, int, float, str)


@functools.cache
def code_identity(kind: str, name: str) -> str:
    """What tells a plug-in's code from another's: its target, its package's version, and a digest of its source.

    Of a process: what was imported stays, whatever becomes of the file. Raises PluginError where it cannot be found.
    """
    plugin = require_plugin(kind, name)
    found = source_digest(plugin.module)
    if found is None:
        _require_module(plugin)
        if not plugin.package:
            raise PluginError(f"the module `{plugin.module}` has no file that tells its code from another's")
    return " ".join(part for part in (plugin.target, plugin.package, found) if part)


def verify_identity(kind: str, name: str, code: str) -> None:
    """Raise PluginError where the code of a plug-in, as this process has it, is not the one that a step names."""
    if code_identity(kind, name) != code:
        raise PluginError(f"the code of `{name}` was changed while the plan ran", "run the plan again")


def load_plugin(plugin: Plugin) -> Any:
    """The object that a plug-in names. Raises PluginError where there is none."""
    code_identity(plugin.kind, plugin.name)
    _require_module(plugin)
    try:
        found = importlib.import_module(plugin.module)
    except ModuleNotFoundError as error:
        message = f"`{plugin.name}`: importing `{plugin.module}` needs `{error.name}`, which is not there"
        raise PluginError(message, f"install it: {error_location(error, plugin)}") from error
    except (Exception, SystemExit) as error:
        message = f"`{plugin.name}`: importing `{plugin.module}` raised {describe_error(error)}"
        raise PluginError(message, error_location(error, plugin)) from error
    for word in plugin.factory.split("."):
        if not hasattr(found, word):
            raise _no_attribute(plugin, [name for name in vars(found) if not name.startswith("_")])
        found = getattr(found, word)
    return found


def call_plugin(plugin: Plugin, function: Callable[..., T], *args: Any, **more: Any) -> T:
    """What a function of a plug-in gives. What it raises becomes a PluginError; memory that runs out stays what it is.

    Numbers of its own that it draws from torch's streams are the caller's to fix.
    """
    try:
        return function(*args, **more)
    except (TickdslError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise PluginError(f"`{plugin.name}` raised {describe_error(error)}", error_location(error, plugin)) from error


def describe(plugin: Plugin) -> PluginDescription:
    """What a plug-in is: from its source where that says so plainly, else from the imported object."""
    _require_module(plugin)
    try:
        plain = static_description.describe(plugin.target)
    except NoSuchName as error:
        raise _no_attribute(plugin, error.names) from None
    if plain is not None:
        return plain
    found = load_plugin(plugin)
    try:
        parameters = inspect.signature(found).parameters.values() if callable(found) else ()
    except (TypeError, ValueError):  # written in C
        parameters = ()
    attributes = {name: getattr(found, name) for name in ("units", "needs") if hasattr(found, name)}
    return PluginDescription(
        static_description.first_line(inspect.getdoc(found)),
        {each.name: each.default for each in parameters if isinstance(each.default, _PLAIN_TYPES)},
        attributes,
        function=not isinstance(found, type) and "units" not in attributes,
    )


def type_in_words(value: object) -> str:
    """The type of a value, in words: `an int`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def describe_error(error: BaseException) -> str:
    """An error in a line."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def error_location(error: BaseException, plugin: Plugin) -> str:
    """Where an error was raised: the innermost line of the plug-in's own module, else of all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    spec = static_description.find_module(plugin.module)
    own = [frame for frame in frames if spec is not None and frame.filename == spec.origin]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def _require_module(plugin: Plugin) -> None:
    """Raise PluginError where there is no such module."""
    if static_description.find_module(plugin.module) is None:
        way_out = (
            f"install {plugin.package.partition(' ')[0]} again"
            if plugin.package
            else "install its package, or run tickdsl in the folder where the module lies"
        )
        raise PluginError(f"`{plugin.name}`: there is no module `{plugin.module}`", way_out)


def _no_attribute(plugin: Plugin, names: list[str]) -> PluginError:
    near = difflib.get_close_matches(plugin.factory, names, n=1)
    way_out = f"did you mean `{plugin.module}:{near[0]}`?" if near else f"define `{plugin.factory}` there"
    return PluginError(f"`{plugin.name}`: the module `{plugin.module}` has no `{plugin.factory}`", way_out)
