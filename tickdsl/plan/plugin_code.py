"""The identity of plug-in code in step keys, so that an edited plug-in re-runs the steps that use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tickdsl.plugins import (
    PluginError,
    call_name,
    code_identity,
    has_foreign_code,
    is_plugin,
    network_identity,
    verify_identity,
)


def plugin_identities(args: Mapping[str, Any]) -> dict[str, str]:
    """The code identities of the plug-ins that a step with these arguments runs, by kind (augmentations: and name).

    Data sets are not included: they are identified by their content.
    """
    identities: dict[str, str] = {}
    for key, kind, name in named_plugins(args):
        if kind == "model" and has_foreign_code(name):
            identities[key] = network_identity(name, args["model"].get("options", {}))
        elif is_plugin(kind, name):
            identities[key] = code_identity(kind, name)
    return identities


def verify_plugin_code(args: Mapping[str, Any]) -> None:
    """Raise PluginError if the code in this process differs from the code in the step's key."""
    named = {key: (kind, name) for key, kind, name in named_plugins(args)}
    for key, known in args.get("code", {}).items():
        kind, name = named[key]
        if kind != "model":
            verify_identity(kind, name, known)
        elif network_identity(name, args["model"].get("options", {})) != known:
            raise PluginError(f"the code of `{name}` was changed during the run", "run the plan again")


def named_plugins(args: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The key in `code`, the kind and the name of everything that could be a plug-in."""
    recipe = args.get("recipe", {})
    named = {
        "model": args.get("model", {}).get("name"),
        "criterion": args.get("by"),
        "schedule": recipe.get("schedule"),
        "metric": args.get("metric"),
        "task": args.get("data", {}).get("task"),
        "loss": recipe.get("loss"),
        "optimiser": recipe.get("optimizer"),
    }
    yield from ((kind, kind, call_name(name)) for kind, name in named.items() if name is not None)
    for text in recipe.get("augment", ()):
        name = call_name(text)
        yield f"augmentation {name}", "augmentation", name
