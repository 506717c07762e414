"""Hash the source of a plug-in and of the project modules it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from tickdsl.plugins.static_description import absolute_module, find_module, parse_module, read_source_bytes
from tickdsl.plugins.syntax_text import syntax_text

#: Folders of installed packages, where modules in the same folder belong to other projects.
_INSTALLED = ("site-packages", "dist-packages")


def source_digest(module: str) -> str | None:
    """SHA-256 of the code of a module and of the project modules that it imports, directly or indirectly.

    Comments, layout and docstrings do not count. Project modules are those in the same top-level package or folder.
    Returns None if the module has no source file.
    """
    sources: dict[str, bytes] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        spec = find_module(name)
        data = read_source_bytes(spec) if spec is not None else None
        if spec is None or data is None or name in sources:
            continue
        sources[name] = _without_comments(spec, data)
        queue += [other for other in _imported_modules(spec, name) if _same_project(other, module)]
    if module not in sources:
        return None
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return digest.hexdigest()


def _without_comments(spec: ModuleSpec, data: bytes) -> bytes:
    """The syntax of a module; its content if it cannot be parsed."""
    tree = parse_module(spec)
    try:
        return data if tree is None else syntax_text(tree).encode("utf-8", "backslashreplace")
    except RecursionError:
        return data


def _imported_modules(spec: ModuleSpec, module: str) -> Iterator[str]:
    for node in ast.walk(parse_module(spec) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_module(node, module, package=spec.submodule_search_locations is not None)
            for alias in node.names:
                yield f"{base}.{alias.name}" if find_module(f"{base}.{alias.name}") is not None else base


def _same_project(other: str, module: str) -> bool:
    """Whether two modules share a top-level package, or a folder that is not one of installed packages."""
    ours, theirs = module.partition(".")[0], other.partition(".")[0]
    if ours == theirs:
        return True
    root = _root(ours)
    return root is not None and root.name not in _INSTALLED and _root(theirs) == root


def _root(name: str) -> Path | None:
    """The folder that contains a top-level module or package; None if it has no file."""
    spec = find_module(name)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    path = Path(spec.origin)
    return path.parent.parent if spec.submodule_search_locations is not None else path.parent
