"""The identity of plug-in code in step keys, so that an edited plug-in re-runs the steps that use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.plugins import PluginError, code_identity, has_foreign_code, is_plugin, network_identity, verify_identity


def plugin_identities(args: Mapping[str, Any]) -> dict[str, str]:
    """The code identities of the plug-ins that a step with these arguments runs, by kind.

    Data sets are not included: they are identified by their content.
    """
    identities: dict[str, str] = {}
    for kind, name in _named_plugins(args):
        if kind == "model" and has_foreign_code(name):
            identities[kind] = network_identity(name, args["model"].get("options", {}))
        elif is_plugin(kind, name):
            identities[kind] = code_identity(kind, name)
    return identities


def verify_plugin_code(args: Mapping[str, Any]) -> None:
    """Raise PluginError if the code in this process differs from the code in the step's key."""
    names = dict(_named_plugins(args))
    for kind, known in args.get("code", {}).items():
        if kind != "model":
            verify_identity(kind, names[kind], known)
        elif network_identity(names[kind], args["model"].get("options", {})) != known:
            raise PluginError(f"the code of `{names[kind]}` was changed during the run", "run the plan again")


def _named_plugins(args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    named = {
        "model": args.get("model", {}).get("name"),
        "criterion": args.get("by"),
        "schedule": args.get("recipe", {}).get("schedule"),
        "metric": args.get("metric"),
        "task": args.get("data", {}).get("task"),
    }
    yield from ((kind, name) for kind, name in named.items() if name is not None)
