"""Import and call plug-ins, and turn their exceptions into PluginErrors with the location of the failure."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar

from tickdsl.errors import TickdslError, is_out_of_memory
from tickdsl.plugins import static_description
from tickdsl.plugins.entry_points import Plugin, PluginError, require_plugin
from tickdsl.plugins.source_digest import source_digest
from tickdsl.plugins.static_description import NoSuchName, PluginDescription

T = TypeVar("T")
#: Libraries whose code is identified by their version.
_LIBRARIES = ("torch", "torchvision")
_PLAIN_TYPES = (bool, int, float, str)


@functools.cache
def code_identity(kind: str, name: str) -> str:
    """Identify the code of a plug-in by its target, package version and source digest.

    What torch and torchvision offer is identified by their versions.
    Cached for the process, because an imported module stays loaded if its file changes. Raises PluginError if the
    plug-in cannot be found.
    """
    plugin = require_plugin(kind, name)
    library = plugin.module.partition(".")[0]
    if library in _LIBRARIES and not plugin.package:  # every module of it imports most of the others
        return f"{plugin.target} {library} {metadata.version(library).partition('+')[0]}"
    digest = source_digest(plugin.module)
    if digest is None:
        _require_module(plugin)
        if not plugin.package:
            raise PluginError(f"the code of module `{plugin.module}` cannot be identified: it has no source file")
    return " ".join(part for part in (plugin.target, plugin.package, digest) if part)


def verify_identity(kind: str, name: str, code: str) -> None:
    """Raise PluginError if the code of a plug-in in this process differs from the code that a step was planned with."""
    if code_identity(kind, name) != code:
        raise PluginError(f"the code of `{name}` was changed during the run", "run the plan again")


def load_plugin(plugin: Plugin) -> Any:
    """Import a plug-in and return the object it names. Raises PluginError if that fails."""
    code_identity(plugin.kind, plugin.name)
    _require_module(plugin)
    try:
        target: Any = importlib.import_module(plugin.module)
    except ModuleNotFoundError as error:
        message = f"`{plugin.name}`: importing `{plugin.module}` needs `{error.name}`, which is not installed"
        raise PluginError(message, f"install `{error.name}`; imported at {error_location(error, plugin)}") from error
    except (Exception, SystemExit) as error:
        message = f"`{plugin.name}`: importing `{plugin.module}` raised {describe_error(error)}"
        raise PluginError(message, error_location(error, plugin)) from error
    for word in plugin.factory.split("."):
        if not hasattr(target, word):
            raise _no_attribute(plugin, [name for name in vars(target) if not name.startswith("_")])
        target = getattr(target, word)
    return target


def call_plugin(plugin: Plugin, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Call a function of a plug-in. Raises PluginError if the function raises; out-of-memory errors pass through.

    The caller seeds torch's random number generators if the function may draw from them.
    """
    try:
        return function(*args, **kwargs)
    except TickdslError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise PluginError(f"`{plugin.name}` raised {describe_error(error)}", error_location(error, plugin)) from error


def describe(plugin: Plugin) -> PluginDescription:
    """Describe a plug-in from its source if possible, else from the imported object."""
    _require_module(plugin)
    try:
        description = static_description.describe(plugin.target)
    except NoSuchName as error:
        raise _no_attribute(plugin, error.names) from None
    if description is not None:
        return description
    factory = load_plugin(plugin)
    try:
        parameters = inspect.signature(factory).parameters.values() if callable(factory) else ()
    except (TypeError, ValueError):  # implemented in C
        parameters = ()
    attributes = {name: getattr(factory, name) for name in ("units", "needs") if hasattr(factory, name)}
    return PluginDescription(
        static_description.first_line(inspect.getdoc(factory)),
        {parameter.name: parameter.default for parameter in parameters if isinstance(parameter.default, _PLAIN_TYPES)},
        attributes,
        function=not isinstance(factory, type) and "units" not in attributes,
    )


def type_in_words(value: object) -> str:
    """The type of a value with its article: `an int`."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def describe_error(error: BaseException) -> str:
    """The type and the first line of an exception."""
    text = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def error_location(error: BaseException, plugin: Plugin) -> str:
    """`path:line` where an error was raised: the innermost frame in the plug-in's module, else the innermost frame."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    spec = static_description.find_module(plugin.module)
    own = [frame for frame in frames if spec is not None and frame.filename == spec.origin]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"


def _require_module(plugin: Plugin) -> None:
    """Raise PluginError if the module of a plug-in does not exist."""
    if static_description.find_module(plugin.module) is None:
        hint = (
            f"reinstall {plugin.package.partition(' ')[0]}"
            if plugin.package
            else "install its package, or run tickdsl in the folder of the module"
        )
        raise PluginError(f"`{plugin.name}`: no module `{plugin.module}`", hint)


def _no_attribute(plugin: Plugin, names: list[str]) -> PluginError:
    close = difflib.get_close_matches(plugin.factory, names, n=1)
    hint = f"did you mean `{plugin.module}:{close[0]}`?" if close else f"define `{plugin.factory}` in the module"
    return PluginError(f"`{plugin.name}`: module `{plugin.module}` has no `{plugin.factory}`", hint)
