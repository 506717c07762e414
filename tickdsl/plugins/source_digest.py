"""What code a plug-in rests on: its module, and what that imports of its own."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from tickdsl.plugins.static_description import absolute_module, find_module, parse_module, read_source_bytes

#: Folders of installed packages: what lies beside a module there has nothing to do with it.
_INSTALLED = ("site-packages", "dist-packages")


def source_digest(module: str) -> str | None:
    """SHA-256 over the source of a module and of those of its own package, or beside it, that it imports, directly or
    through others; None where its source is not to be had.
    """
    found: dict[str, bytes] = {}
    pile = [module]
    while pile:
        name = pile.pop()
        spec = find_module(name)
        data = read_source_bytes(spec) if spec is not None else None
        if spec is None or data is None or name in found:
            continue
        found[name] = data
        pile += [other for other in _imported(spec, name) if _belongs(other, module)]
    if module not in found:
        return None
    whole = hashlib.sha256()
    for name in sorted(found):
        whole.update(f"{name} {len(found[name])}\n".encode() + found[name])
    return whole.hexdigest()


def _imported(spec: ModuleSpec, module: str) -> Iterator[str]:
    for node in ast.walk(parse_module(spec) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_module(node, module, package=spec.submodule_search_locations is not None)
            for alias in node.names:
                yield f"{base}.{alias.name}" if find_module(f"{base}.{alias.name}") is not None else base


def _belongs(other: str, module: str) -> bool:
    """Whether a module is of the same package, or lies beside it where that is no folder of installed packages."""
    ours, theirs = module.partition(".")[0], other.partition(".")[0]
    if ours == theirs:
        return True
    root = _root(ours)
    return root is not None and root.name not in _INSTALLED and _root(theirs) == root


def _root(name: str) -> Path | None:
    """The folder in which a module or package lies that is in no package itself."""
    spec = find_module(name)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    path = Path(spec.origin)
    return path.parent.parent if spec.submodule_search_locations is not None else path.parent
