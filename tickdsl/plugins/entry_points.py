"""Find plug-ins by name: entry points of installed packages, and quoted `"package.module:factory"` names."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import attrs

from tickdsl.errors import TickdslError
from tickdsl.plugins import static_description
from tickdsl.plugins.permission import code_allowed

#: Kind of plug-in -> its entry-point group.
ENTRY_POINT_GROUPS: dict[str, str] = {
    "model": "tickdsl.models",
    "data set": "tickdsl.datasets",
    "criterion": "tickdsl.criteria",
    "schedule": "tickdsl.schedules",
    "metric": "tickdsl.metrics",
    "task": "tickdsl.tasks",
    "loss": "tickdsl.losses",
    "optimiser": "tickdsl.optimisers",
    "augmentation": "tickdsl.augmentations",
}
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class PluginError(TickdslError):
    """Raised if a plug-in cannot be found, cannot be loaded, fails, or returns an invalid value."""


@attrs.frozen
class Plugin:
    """A plug-in.

    kind: a key of ENTRY_POINT_GROUPS. name: its name in plans. target: `package.module:factory`. package: the name and
    version of the distribution that registers it; empty if the plan names the target itself.
    """

    kind: str
    name: str
    target: str
    package: str = ""

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def factory(self) -> str:
        return self.target.partition(":")[2]

    @property
    def summary(self) -> str:
        """The first line of its docstring, read from its source without an import; "" if that is not possible."""
        try:
            description = static_description.describe(self.target)
        except static_description.NoSuchName:
            return ""
        return description.summary if description is not None else ""

    @property
    def origin(self) -> str:
        """Its target and package, for messages."""
        return f"{self.target} of {self.package}" if self.package else self.target


def is_quoted_target(name: str) -> bool:
    """Whether a name has the form `package.module:factory`."""
    return ":" in name


def find_plugin(kind: str, name: str) -> Plugin | None:
    """The plug-in with this name; None if no installed package registers one.

    Raises PluginError if several packages register the name, if a target is malformed, or if a quoted name is not
    allowed to run.
    """
    if is_quoted_target(name):
        return _quoted(kind, name)
    candidates = installed(kind).get(name, ())
    if not candidates:
        return None
    plugin = candidates[0]
    if len(candidates) > 1:
        packages = " and ".join(candidate.package for candidate in candidates)
        raise PluginError(
            f"the {kind} `{name}` is registered by {packages}",
            f'choose one by its target, e.g. "{plugin.target}", and add --allow-code',
        )
    if not _TARGET.fullmatch(plugin.target):
        message = f"{plugin.package} registers the {kind} `{name}` as `{plugin.target}`, which is not a valid target"
        raise PluginError(
            message, f'use "package.module:factory" in its entry-point group `{ENTRY_POINT_GROUPS[kind]}`'
        )
    return plugin


def is_plugin(kind: str, name: str) -> bool:
    """Whether a name in a checked plan is a plug-in rather than a built-in."""
    return is_quoted_target(name) or name in installed(kind)


def require_plugin(kind: str, name: str) -> Plugin:
    """Like `find_plugin`, but raises PluginError if there is no such plug-in."""
    plugin = find_plugin(kind, name)
    if plugin is None:
        group = ENTRY_POINT_GROUPS[kind]
        raise PluginError(f"no {kind} `{name}`", f"install the package that registers `{name}` in `{group}`")
    return plugin


def check_target(name: str) -> None:
    """Raise PluginError if a quoted name does not have the form `package.module:factory`."""
    if not _TARGET.fullmatch(name):
        raise PluginError(f'"{name}" is not a valid target', 'write "package.module:factory"')


def _quoted(kind: str, name: str) -> Plugin:
    check_target(name)
    if not code_allowed():
        raise PluginError(f'"{name}" is code and needs permission to run', "add --allow-code")
    return Plugin(kind, name, name)


def installed(kind: str) -> Mapping[str, tuple[Plugin, ...]]:
    """The plug-ins of a kind that installed packages register, by name. Nothing is imported."""
    return scan_entry_points()[kind]


@functools.cache
def scan_entry_points() -> dict[str, dict[str, tuple[Plugin, ...]]]:
    """The plug-ins that installed packages register, by kind and name. Cached for the process."""
    from importlib import metadata

    entry_points = metadata.entry_points()
    plugins_by_kind: dict[str, dict[str, tuple[Plugin, ...]]] = {}
    for kind, group in ENTRY_POINT_GROUPS.items():
        by_name: dict[str, dict[str, Plugin]] = {}
        for entry in entry_points.select(group=group):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package"
            target = entry.value.partition("[")[0].strip()
            # A package that is on sys.path twice lists every entry point twice.
            by_name.setdefault(entry.name, {}).setdefault(target, Plugin(kind, entry.name, target, package))
        plugins_by_kind[kind] = {name: tuple(plugins.values()) for name, plugins in sorted(by_name.items())}
    return plugins_by_kind
