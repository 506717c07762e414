"""The identity of the code of a network that tickdsl does not define: a plug-in's, or a library's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tickdsl.plugins.entry_points import is_plugin
from tickdsl.plugins.libraries import library_identity, library_of
from tickdsl.plugins.loading import code_identity


def has_foreign_code(name: str) -> bool:
    """Whether the code of a network of a checked plan is in a plug-in or a library that is no dependency of tickdsl."""
    return library_of(name) is not None or is_plugin("model", name)


def network_identity(name: str, options: Mapping[str, Any]) -> str:
    """What identifies the code of a network: of a plug-in or a library; empty for networks of the catalogue.

    options: those of the model in the plan. Raises PluginError if the code cannot be found.
    """
    if library_of(name) is not None:
        return library_identity(name, options)
    return code_identity("model", name) if is_plugin("model", name) else ""
