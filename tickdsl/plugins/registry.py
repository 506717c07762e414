"""A table of what can be named: what is built in, and what users add. Their part is looked up when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from tickdsl.plugins import loading
from tickdsl.plugins.entry_points import Plugin, PluginError, find_plugin, installed, is_quoted_target
from tickdsl.plugins.permission import code_allowed
from tickdsl.plugins.static_description import PluginDescription

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """`builtin` by name, then what installed packages register; quoted names where code is allowed.

    `describe` says what a plug-in is in the table's terms. Iterating names plug-ins and imports none.
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
        """What installed packages register under names of their own. Nothing is imported."""
        return {name: plugins[0] for name, plugins in installed(self.kind).items() if name not in self.builtin}

    def resolve(self, name: str) -> T:
        """As `[name]`. Raises PluginError where a package registers a name that is built in as well."""
        clash = installed(self.kind).get(name) if name in self.builtin else None
        if clash:
            raise PluginError(
                f"`{name}` is a built-in {self.kind}, and {clash[0].package} registers another one of that name",
                f'rename theirs, or name it "{clash[0].target}" with --allow-code; to mean the built-in one, '
                f"uninstall {clash[0].package.partition(' ')[0]}",
            )
        return self[name]
