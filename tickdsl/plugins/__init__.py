"""What users add: networks, data sets, criteria, schedules and metrics of their own.

A plug-in is named by an entry point of an installed package, or in a plan as `"package.module:factory"`. Nothing of it
is imported before its result is wanted: `registry` finds it by name, `source` reads what it is without running it,
`digest` tells its code from another's, `loading` imports it. No torch here.
"""

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
from tickdsl.plugins.loading import call_plugin, code_identity, load_plugin, type_in_words, verify_identity
from tickdsl.plugins.permission import allow_code, code_allowed
from tickdsl.plugins.registry import Registry
from tickdsl.plugins.static_description import PluginDescription

__all__ = [
    "ENTRY_POINT_GROUPS",
    "Plugin",
    "PluginDescription",
    "PluginError",
    "Registry",
    "allow_code",
    "call_plugin",
    "check_target",
    "code_allowed",
    "code_identity",
    "find_plugin",
    "installed",
    "is_plugin",
    "is_quoted_target",
    "load_plugin",
    "require_plugin",
    "type_in_words",
    "verify_identity",
]
