"""The identity of plug-in code in step keys, so that an edited plug-in re-runs the steps that use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.plugins import code_identity, is_plugin, verify_identity


def plugin_identities(args: Mapping[str, Any]) -> dict[str, str]:
    """The code identities of the plug-ins that a step with these arguments runs, by kind.

    Data sets are not included: they are identified by their content.
    """
    return {kind: code_identity(kind, name) for kind, name in named_plugins(args) if is_plugin(kind, name)}


def verify_plugin_code(args: Mapping[str, Any]) -> None:
    """Raise PluginError if the code in this process differs from the code in the step's key."""
    names = dict(named_plugins(args))
    for kind, known in args.get("code", {}).items():
        verify_identity(kind, names[kind], known)


def named_plugins(args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a step with these arguments runs that may be a plug-in, as kind and name."""
    named = {
        "model": args.get("model", {}).get("name"),
        "criterion": args.get("by"),
        "schedule": args.get("recipe", {}).get("schedule"),
        "metric": args.get("metric"),
        "task": args.get("data", {}).get("task"),
    }
    yield from ((kind, name) for kind, name in named.items() if name is not None)
