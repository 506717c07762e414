"""The code behind each operation, and the table that holds the operations' versions to it.

Equal keys of steps mean equal results, also in stores that an earlier tickdsl has filled. So an edit that changes the
results of an operation must raise its version in `tickdsl/plan/steps.py`. `tests/engine/steps/operation_code.json`
keeps, for every operation, its version and a digest of its code: the syntax trees, without comments and docstrings, of
every function, class and constant of tickdsl that its implementation refers to, directly or indirectly.

    python tests/helpers/operation_code.py            after a version was raised
    python tests/helpers/operation_code.py neutral    after an edit that changes no result
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tickdsl.plan.steps import OPERATIONS
from tickdsl.plugins.syntax_text import syntax_text

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests" / "engine" / "steps" / "operation_code.json"
COMMAND = "python tests/helpers/operation_code.py"
_IMPLEMENTATIONS = ("tickdsl.engine.steps.operations", "_OPERATIONS")
#: Further implementations, which the table of operations does not name: trainings of equal shape run as one.
_FURTHER = {"train": ("tickdsl.engine.steps.stacking", "run_stacked_steps")}
#: What carries steps, results and messages, or decides how fast something is computed, but not what.
_CARRIERS = (
    "tickdsl.records", "tickdsl.plugins", "tickdsl.plan", "tickdsl.errors", "tickdsl.patient_reads",
    "tickdsl.percentages", "tickdsl.plurals", "tickdsl.printable", "tickdsl.engine.machine", "tickdsl.engine.hooks",
    "tickdsl.engine.messages", "tickdsl.engine.steps.settings", "tickdsl.training.timing",
)  # fmt: skip

#: A module and a name that it defines.
Symbol = tuple[str, str]


@attrs.frozen
class Module:
    """The definitions of a module by name, its imports (name -> module and name there), and its other statements."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Symbol]
    others: list[ast.stmt]


class Code:
    """The source code of tickdsl; `edits` replace the texts of modules."""

    def __init__(self, edits: dict[str, str] | None = None) -> None:
        self._edits = edits or {}
        self.module = functools.cache(self._read)
        self.text_of = functools.cache(self._text_of)
        self._references = functools.cache(lambda symbol: tuple(self._find_references(symbol)))

    def implementation(self, operation: str) -> list[Symbol]:
        """Where the implementation of an operation begins."""
        name, table = _IMPLEMENTATIONS
        (statement,) = self._required(name).definitions[table]
        assert isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Dict)
        entries = zip(statement.value.keys, statement.value.values, strict=True)
        functions = {ast.literal_eval(key): value for key, value in entries if key is not None}
        found = list(self._references_in(name, [functions[operation]]))
        assert found, operation
        return [*found, *([_FURTHER[operation]] if operation in _FURTHER else [])]

    def reached(self, operation: str) -> set[Symbol]:
        """Everything that the implementation of an operation refers to."""
        reached: set[Symbol] = set()
        queue = self.implementation(operation)
        while queue:
            symbol = queue.pop()
            if symbol not in reached and not _is_carrier(symbol[0]):
                reached.add(symbol)
                queue += self._references(symbol)
        return reached

    def digest(self, symbols: Iterable[Symbol]) -> str:
        """A digest of the code of symbols."""
        state = hashlib.sha256()
        for module, name in sorted(symbols):
            state.update(f"\n{module}:{name} {self.text_of((module, name))}".encode("utf-8", "backslashreplace"))
        return state.hexdigest()[:16]

    def table(self) -> dict[str, Any]:
        """The table for this code: the operations, and the modules by which a change can be found."""
        reached = {operation: self.reached(operation) for operation in OPERATIONS}
        by_module: dict[str, set[Symbol]] = {}
        for symbol in set().union(*reached.values()):
            by_module.setdefault(symbol[0], set()).add(symbol)
        return {
            "operations": {
                operation: {"version": version, "code": self.digest(reached[operation])}
                for operation, version in OPERATIONS.items()
            },
            "modules": {name: self.digest(by_module[name]) for name in sorted(by_module)},
        }

    def _text_of(self, symbol: Symbol) -> str:
        module = self._required(symbol[0])
        return "\n".join(map(_text_of_statement, [*module.definitions[symbol[1]], *module.others]))

    def _find_references(self, symbol: Symbol) -> Iterator[Symbol]:
        module = self._required(symbol[0])
        yield from self._references_in(symbol[0], [*module.definitions[symbol[1]], *module.others])

    def _references_in(self, name: str, nodes: Iterable[ast.AST]) -> Iterator[Symbol]:
        for words in {words for node in nodes for words in _words_in(node)}:
            symbol = self._resolve(name, words)
            if symbol is not None:
                yield symbol

    def _resolve(self, name: str, words: tuple[str, ...]) -> Symbol | None:
        """The definition in tickdsl that `words` (`a.b.c`) refer to in the module `name`; None if it is none."""
        module = self.module(name)
        if module is None:
            return None
        if words[0] in module.definitions:
            return name, words[0]
        target, attribute = module.imports.get(words[0], ("", ""))
        rest = [*([attribute] if attribute else []), *words[1:]]
        while rest and self.module(f"{target}.{rest[0]}") is not None:
            target = f"{target}.{rest.pop(0)}"
        return self._resolve(target, tuple(rest)) if target and rest else None

    def _required(self, name: str) -> Module:
        module = self.module(name)
        assert module is not None, name
        return module

    def _read(self, name: str) -> Module | None:
        parts = name.split(".")
        if parts[0] != "tickdsl":
            return None
        path = ROOT.joinpath(*parts)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.is_file():
            return None
        text = self._edits[name] if name in self._edits else file.read_text("utf-8")
        return _parse(text)


@functools.cache
def _parse(text: str) -> Module:
    module = Module({}, {}, [])
    tree = ast.parse(text)
    for statement in tree.body:
        names = list(_defined_names(statement))
        for defined in names:
            module.definitions.setdefault(defined, []).append(statement)
        is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not names and not is_docstring and not isinstance(statement, (ast.Import, ast.ImportFrom)):
            module.others.append(statement)
    for node in ast.walk(tree):  # also those inside functions
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            module.imports.update({a.asname or a.name: (node.module or "", a.name) for a in node.names})
        elif isinstance(node, ast.Import):
            for alias in node.names:
                target = alias.name if alias.asname else alias.name.partition(".")[0]
                module.imports[alias.asname or target] = (target, "")
    return module


_text_of_statement = functools.cache(syntax_text)


@functools.cache
def _words_in(root: ast.AST) -> frozenset[tuple[str, ...]]:
    """The names in a piece of code, with the attributes that are read from them: (`a`, `b`, `c`) for `a.b.c`."""
    return frozenset(words for node in ast.walk(root) if (words := _dotted(node)))


def _dotted(node: ast.AST) -> tuple[str, ...]:
    words: list[str] = []
    while isinstance(node, ast.Attribute):
        words.append(node.attr)
        node = node.value
    return (node.id, *reversed(words)) if isinstance(node, ast.Name) else ()


def _defined_names(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _is_carrier(module: str) -> bool:
    return module == "tickdsl" or any(module == name or module.startswith(f"{name}.") for name in _CARRIERS)


def read_table() -> dict[str, Any]:
    """The table as it is kept."""
    table: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {"operations": {}, "modules": {}}
    return table


def unexplained(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The operations whose code has changed although their version has not been raised."""
    pairs = ((name, kept["operations"].get(name), entry) for name, entry in now["operations"].items())
    return [name for name, old, new in pairs if old and old["code"] != new["code"] and new["version"] <= old["version"]]


def changed_modules(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The modules in which something changed that an operation uses."""
    names = sorted({*kept["modules"], *now["modules"]})
    return [name for name in names if kept["modules"].get(name) != now["modules"].get(name)]


def main(arguments: list[str]) -> int:
    """Write the table, unless an edit has to be called neutral first."""
    kept, now = read_table(), Code().table()
    blamed = unexplained(kept, now)
    if blamed and arguments != ["neutral"]:
        print(f"the code of {', '.join(blamed)} has changed, in {', '.join(changed_modules(kept, now))}")
        print(f"raise their versions in tickdsl/plan/steps.py; if no result changes, run `{COMMAND} neutral`")
        return 1
    TABLE.write_text(json.dumps(now, indent=1) + "\n")
    print(f"wrote {TABLE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
