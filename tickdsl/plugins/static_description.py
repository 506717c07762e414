"""Describe a plug-in from its source, without importing it."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import attrs

#: Number of re-exports and aliases to follow.
_MAX_ALIASES = 8
#: Base classes that add no parameters and no `units`.
_KNOWN_BASES = ("Criterion", "Saliency", "Module", "object")
#: Statements that define a name unconditionally.
_DEFINING = (ast.FunctionDef, ast.ClassDef, ast.ImportFrom, ast.Assign)
#: Builtins that can define names without a statement that shows it.
_DYNAMIC = ("globals", "vars", "exec", "setattr")


@attrs.frozen
class PluginDescription:
    """What is known about a factory without calling it.

    summary: the first line of its docstring. parameters: its parameters with a default. attributes: the class
    attributes with literal values. function: whether it is a function rather than a class or an instance.
    """

    summary: str = ""
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    attributes: Mapping[str, Any] = attrs.field(factory=dict)
    function: bool = False


class NoSuchName(Exception):
    """Raised if a module does not define a name; `names` are those that it defines."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names


def find_module(module: str) -> ModuleSpec | None:
    """Find a module without importing its parent packages, unlike importlib. None if it does not exist."""
    path: Any = None
    spec: ModuleSpec | None = None
    names = module.split(".")
    for count in range(1, len(names) + 1):
        if spec is not None:
            path = spec.submodule_search_locations
            if path is None:
                return None
        spec = _find_spec(".".join(names[:count]), path)
        if spec is None:
            return None
    return spec


def _find_spec(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, path, None) if find is not None else None
        except Exception:
            spec = None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def read_source_bytes(spec: ModuleSpec) -> bytes | None:
    """The content of a module's file; None if it has none."""
    read = getattr(spec.loader, "get_data", None)
    if read is None or spec.origin is None or not spec.has_location:
        return None
    try:
        data: bytes = read(spec.origin)
    except OSError:
        return None
    return data


def describe(target: str) -> PluginDescription | None:
    """Describe `package.module:factory` from its source. None if that takes an import.

    Raises NoSuchName if the module does not define the name.
    """
    module, _, name = target.partition(":")
    for _ in range(_MAX_ALIASES):
        spec = find_module(module)
        tree = parse_module(spec) if spec is not None else None
        if spec is None or tree is None or "." in name:
            return None
        statement = _find_definition(tree, name)
        match statement:
            case ast.FunctionDef(decorator_list=[]):
                return _describe_function(statement)
            case ast.ClassDef(decorator_list=[]):
                return _describe_class(statement)
            case ast.ImportFrom():
                base = absolute_module(statement, module, package=spec.submodule_search_locations is not None)
                alias = next(alias for alias in statement.names if (alias.asname or alias.name) == name)
                if find_module(f"{base}.{alias.name}") is not None:
                    return None
                module, name = base, alias.name
            case ast.Assign(value=ast.Name(id=other)):
                name = other
            case _:
                return None
    return None


def parse_module(spec: ModuleSpec) -> ast.Module | None:
    """Parse the source of a module; None if it has no source or does not parse."""
    if spec.origin is None or not spec.origin.endswith(".py") or not spec.has_location:
        return None
    try:
        stat = Path(spec.origin).stat()
    except OSError:  # in a zip archive
        data = read_source_bytes(spec)
        return None if data is None else _parse(data)
    return _parse_file(spec.origin, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=256)
def _parse_file(path: str, mtime_ns: int, size: int) -> ast.Module | None:
    """Parse a file; modification time and size are part of the cache key."""
    try:
        return _parse(Path(path).read_bytes())
    except OSError:
        return None


def _parse(data: bytes) -> ast.Module | None:
    try:
        return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two for deeply nested code
        return None  # the import will report the error


@functools.lru_cache(maxsize=256)
def _defines_dynamically(tree: ast.Module) -> bool:
    """Whether a module may define names dynamically."""
    return any(isinstance(node, ast.Name) and node.id in _DYNAMIC for node in ast.walk(tree))


def _find_definition(tree: ast.Module, name: str) -> ast.stmt | None:
    """The last statement that defines a name in a module; None if the definition is conditional or dynamic.

    Raises NoSuchName if the module does not define the name.
    """
    definition: ast.stmt | None = None
    names: list[str] = []
    for statement in tree.body:
        defined = list(_defined_names(statement))
        names += defined
        if name in defined:
            definition = statement if isinstance(statement, _DEFINING) else None
    if _defines_dynamically(tree) or {"*", "__getattr__"}.intersection(names):
        return None
    if name not in names:
        raise NoSuchName(names)
    return definition


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    """The module-level names that a statement defines, including those inside `if`, `try` and the like."""
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield statement.name
            return
        case ast.ImportFrom() | ast.Import():
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
            return
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield from _defined_names(child)
        else:
            for node in ast.walk(child):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
                elif isinstance(node, ast.stmt):  # in `except` and `case`
                    yield from _defined_names(node)


def _describe_function(node: ast.FunctionDef, skip: int = 0) -> PluginDescription | None:
    positional = [*node.args.posonlyargs, *node.args.args][skip:]
    pairs = list(zip(positional[len(positional) - len(node.args.defaults) :], node.args.defaults, strict=True))
    pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d is not None]
    try:
        parameters = {argument.arg: ast.literal_eval(default) for argument, default in pairs}
    except ValueError:
        return None
    return PluginDescription(_summary(node), parameters, function=not skip)


def _describe_class(node: ast.ClassDef) -> PluginDescription | None:
    if any(ast.unparse(base).rpartition(".")[2] not in _KNOWN_BASES for base in node.bases):
        return None
    attributes: dict[str, Any] = {}
    parameters: Mapping[str, Any] = {}
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name="__init__"):
                init = _describe_function(statement, skip=1)
                if init is None:
                    return None
                parameters = init.parameters
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    attributes[name] = ast.literal_eval(value)
                except ValueError:
                    return None
    return PluginDescription(_summary(node), parameters, attributes)


def _summary(node: ast.FunctionDef | ast.ClassDef) -> str:
    return first_line(ast.get_docstring(node))


def first_line(docstring: str | None) -> str:
    """The first line of a docstring, without the period at its end."""
    return (docstring or "").strip().partition("\n")[0].strip().removesuffix(".")


def absolute_module(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    """The absolute name of the module in a `from … import` statement of `module`."""
    if not node.level:
        return node.module or ""
    parents = module.split(".") if package else module.split(".")[:-1]
    parents = parents[: len(parents) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])
