"""Plug-ins: models, data sets, criteria, schedules, metrics, tasks, losses and the like that users add.

A plug-in is registered by an entry point of an installed package, or named in a plan as `"package.module:factory"`. It
is only imported when it is needed: `registry` finds plug-ins by name, `static_description` describes them from their
source, `source_digest` hashes their code, and `loading` imports them. Does not import torch.
"""

from tickdsl.plugins.calls import Call, CallError, call_name
from tickdsl.plugins.entry_points import (
    ENTRY_POINT_GROUPS,
    Plugin,
    PluginError,
    check_target,
    find_plugin,
    installed,
    is_plugin,
    is_quoted_target,
    require_plugin,
)
from tickdsl.plugins.libraries import LIBRARIES, Library, library_of
from tickdsl.plugins.loading import call_plugin, code_identity, load_plugin, type_in_words, verify_identity
from tickdsl.plugins.network_code import has_foreign_code, network_identity
from tickdsl.plugins.permission import allow_code, code_allowed
from tickdsl.plugins.registry import Registry
from tickdsl.plugins.static_description import PluginDescription

__all__ = [
    "ENTRY_POINT_GROUPS",
    "LIBRARIES",
    "Call",
    "CallError",
    "Library",
    "Plugin",
    "PluginDescription",
    "PluginError",
    "Registry",
    "allow_code",
    "call_name",
    "call_plugin",
    "check_target",
    "code_allowed",
    "code_identity",
    "find_plugin",
    "has_foreign_code",
    "installed",
    "is_plugin",
    "is_quoted_target",
    "library_of",
    "load_plugin",
    "network_identity",
    "require_plugin",
    "type_in_words",
    "verify_identity",
]
