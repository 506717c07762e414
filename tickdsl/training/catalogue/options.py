"""The options that a plan can give to a model or a data set."""

from __future__ import annotations

from typing import Any

import attrs

from tickdsl.plugins import PluginDescription

#: The types that an option can have.
_OPTION_TYPES = (bool, int, float, str)


@attrs.frozen
class Option:
    """A `key=value` option of a model or a data set: its type, its default and its lower bound (None: unbounded)."""

    type: type
    default: Any
    summary: str
    least: float | None = None


def plugin_options(description: PluginDescription, reserved: tuple[str, ...] = ()) -> dict[str, Option]:
    """The parameters of a plug-in's factory that a plan can set: those whose default is a number, a string or a bool.

    reserved: parameters that tickdsl always passes itself.
    """
    return {
        name.replace("_", "-"): Option(type(default), default, f"parameter `{name}` of the factory")
        for name, default in description.parameters.items()
        if isinstance(default, _OPTION_TYPES) and name not in reserved
    }
