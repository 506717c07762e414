"""A mapping from names to built-ins and plug-ins, which are looked up on access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from tickdsl.plugins import loading
from tickdsl.plugins.entry_points import Plugin, PluginError, find_plugin, installed, is_quoted_target
from tickdsl.plugins.permission import code_allowed
from tickdsl.plugins.static_description import PluginDescription

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Built-ins by name, then plug-ins of installed packages, and quoted names if code is allowed.

    `describe` turns a plug-in and its description into a value of the mapping. Iterating and `in` import nothing;
    `[name]` imports a plug-in that cannot be described from its source.
    """

    def __init__(self, kind: str, builtin: Mapping[str, T], describe: Callable[[Plugin, PluginDescription], T]) -> None:
        self.kind = kind
        self.builtin = builtin
        self._describe = describe

    def __getitem__(self, name: str) -> T:
        if name in self.builtin:
            return self.builtin[name]
        plugin = find_plugin(self.kind, name)
        if plugin is None:
            raise KeyError(name)
        return self._describe(plugin, loading.describe(plugin))

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from (name for name in installed(self.kind) if name not in self.builtin)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        if name in self.builtin:
            return True
        return isinstance(name, str) and (code_allowed() if is_quoted_target(name) else name in installed(self.kind))

    @property
    def added(self) -> dict[str, Plugin]:
        """Plug-ins of installed packages whose names are not built in. Nothing is imported."""
        return {name: plugins[0] for name, plugins in installed(self.kind).items() if name not in self.builtin}

    def resolve(self, name: str) -> T:
        """Like `[name]`, but raises PluginError if an installed package registers a built-in name too."""
        conflicting = installed(self.kind).get(name) if name in self.builtin else None
        if conflicting:
            plugin = conflicting[0]
            raise PluginError(
                f"`{name}` is a built-in {self.kind}, but {plugin.package} registers a {self.kind} of that name too",
                f'rename the one in the package, write "{plugin.target}" with --allow-code to use it, or '
                f"uninstall {plugin.package.partition(' ')[0]} to use the built-in one",
            )
        return self[name]
