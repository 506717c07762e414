"""What users add: networks, data sets, criteria, schedules and metrics of their own.

A plug-in is named by an entry point of an installed package, or in a plan as `"package.module:factory"`. Nothing of it
is imported before its result is wanted: `registry` finds it by name, `source` reads what it is without running it,
`digest` tells its code from another's, `loading` imports it. No torch here.
"""

from tickdsl.plugins.loading import called, expect, identity, kind_of, load
from tickdsl.plugins.permission import allow_code, code_allowed
from tickdsl.plugins.registry import GROUPS, Plugin, PluginError, added, find, installed, quoted, required, well_formed
from tickdsl.plugins.source import Described
from tickdsl.plugins.table import Table

__all__ = [
    "GROUPS",
    "Described",
    "Plugin",
    "PluginError",
    "Table",
    "added",
    "allow_code",
    "called",
    "code_allowed",
    "expect",
    "find",
    "identity",
    "installed",
    "kind_of",
    "load",
    "quoted",
    "required",
    "well_formed",
]
