"""Plug-ins by name: those that installed packages register, and those that a plan names in quotes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import attrs

from tickdsl.errors import TickdslError
from tickdsl.plugins import static_description
from tickdsl.plugins.permission import code_allowed

#: What can be added -> the entry-point group that registers it.
ENTRY_POINT_GROUPS: dict[str, str] = {
    "model": "tickdsl.models",
    "data set": "tickdsl.datasets",
    "criterion": "tickdsl.criteria",
    "schedule": "tickdsl.schedules",
    "metric": "tickdsl.metrics",
}
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class PluginError(TickdslError):
    """Code that a user added cannot be found, cannot be run, or gives something else than it should."""


@attrs.frozen
class Plugin:
    """Something of a kind of GROUPS, by the name that plans call it.

    `target` is `package.module:factory`; `package` is the distribution that registers it and its version, empty where
    the plan itself names the target.
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
        """The first line of its docstring, as far as its source tells without being imported."""
        try:
            found = static_description.describe(self.target)
        except static_description.NoSuchName:
            return ""
        return found.summary if found is not None else ""

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"{self.target} of {self.package}" if self.package else self.target


def is_quoted_target(name: str) -> bool:
    """Whether a name is a `package.module:factory`."""
    return ":" in name


def find_plugin(kind: str, name: str) -> Plugin | None:
    """The plug-in of that name; None where no package registers one.

    Raises PluginError where several packages do, or where a quoted name is none or may not run.
    """
    if is_quoted_target(name):
        return _quoted(kind, name)
    found = installed(kind).get(name, ())
    if len(found) > 1:
        packages = " and ".join(plugin.package for plugin in found)
        raise PluginError(
            f"{packages} both register a {kind} `{name}`", f'name one of them: "{found[0].target}", with --allow-code'
        )
    if found and not _TARGET.fullmatch(found[0].target):
        message = f"{found[0].package} registers the {kind} `{name}` as `{found[0].target}`, which names no factory"
        raise PluginError(message, f'write "package.module:factory" in its `{ENTRY_POINT_GROUPS[kind]}`')
    return found[0] if found else None


def is_plugin(kind: str, name: str) -> bool:
    """Whether a name of a plan that was checked is a plug-in's."""
    return is_quoted_target(name) or name in installed(kind)


def require_plugin(kind: str, name: str) -> Plugin:
    """As `find`, where there has to be one."""
    plugin = find_plugin(kind, name)
    if plugin is None:
        group = ENTRY_POINT_GROUPS[kind]
        raise PluginError(f"no {kind} `{name}`", f"is its package installed? it registers `{name}` in `{group}`")
    return plugin


def check_target(name: str) -> None:
    """Raise PluginError where a quoted name is no `package.module:factory`."""
    if not _TARGET.fullmatch(name):
        raise PluginError(f'"{name}" names no code', 'write "package.module:factory"')


def _quoted(kind: str, name: str) -> Plugin:
    check_target(name)
    if not code_allowed():
        raise PluginError(f'"{name}" is code, which runs only where it is allowed', "add --allow-code")
    return Plugin(kind, name, name)


def installed(kind: str) -> Mapping[str, tuple[Plugin, ...]]:
    """What installed packages register, by name. Nothing of them is imported."""
    return scan_entry_points()[kind]


@functools.cache
def scan_entry_points() -> dict[str, dict[str, tuple[Plugin, ...]]]:
    """What installed packages register, by kind and name; looked up once in a process."""
    from importlib import metadata

    everything = metadata.entry_points()
    found: dict[str, dict[str, tuple[Plugin, ...]]] = {}
    for kind, group in ENTRY_POINT_GROUPS.items():
        named: dict[str, dict[str, Plugin]] = {}
        for entry in everything.select(group=group):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package"
            target = entry.value.partition("[")[0].strip()
            # A package that stands on the path twice registers everything twice.
            named.setdefault(entry.name, {}).setdefault(target, Plugin(kind, entry.name, target, package))
        found[kind] = {name: tuple(plugins.values()) for name, plugins in sorted(named.items())}
    return found
