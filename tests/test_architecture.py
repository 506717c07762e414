"""What docs/explanation/architecture.md says of the tree is true of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
PACKAGES = sorted(path.parent for top in ("tickdsl", "tui", "grammar") for path in (ROOT / top).rglob("__init__.py"))
#: `name` in `path`, as the page says who hands a plan over.
NAMED = re.findall(r"`(\w+)` (?:in|\()? ?`?((?:tickdsl|tui|grammar)/[\w/.]+\.py)`", PAGE)


def exported(package: Path) -> set[str]:
    """The names that a package's __init__ imports or defines."""
    tree = ast.parse((package / "__init__.py").read_text("utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return imported | defined


def test_every_path_that_is_named_exists() -> None:
    paths = set(re.findall(r"`((?:tickdsl|tui|grammar|tests|docs)/[\w/.-]*)`", PAGE))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("name", "path"), NAMED)
def test_every_name_stands_in_the_file_that_is_named(name: str, path: str) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in defined


def test_the_page_names_who_hands_over() -> None:
    assert {"load_source", "resolve", "check", "lower", "launch", "run_step", "train", "prune", "compact"} <= {
        n for n, _ in NAMED
    }


def test_every_package_is_on_the_page() -> None:
    subpackages = {path.parent.name for path in (ROOT / "tickdsl").glob("*/__init__.py")}
    assert [name for name in sorted(subpackages) if f"`tickdsl/{name}/`" not in PAGE] == []


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_has_the_name_of_something_its_package_exports(package: Path) -> None:
    """The import system would put the module in the place of the function."""
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    imports_of_modules = {
        alias.name
        for node in ast.walk(ast.parse((package / "__init__.py").read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and (ROOT / node.module.replace(".", "/")).is_dir()
        for alias in node.names
        if (ROOT / node.module.replace(".", "/") / f"{alias.name}.py").exists()
    }
    assert modules & (exported(package) - imports_of_modules) == set()


def test_tests_stand_in_the_tree_of_what_they_test() -> None:
    """A folder of tests is named like a package, or is one of those that belong to none."""
    apart = {"helpers", "invalid", "extending", "second_device", "plans", "golden", "frozen", "layouts"}
    for folder in (path for path in (ROOT / "tests").rglob("*") if path.is_dir() and path.name != "__pycache__"):
        relative = folder.relative_to(ROOT / "tests")
        if apart.isdisjoint(relative.parts):
            home = ROOT / relative if relative.parts[0] in ("tui", "grammar") else ROOT / "tickdsl" / relative
            assert home.is_dir(), f"tests/{relative} tests nothing of that name"
