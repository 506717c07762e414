"""`import tickdsl` offers its documented names, and loads nothing that it does not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tickdsl

ROOT = Path(__file__).parents[2]
#: Libraries that take long to load.
HEAVY = ("torch", "torchvision", "numpy", "pandas", "scipy", "networkx", "lark", "rich", "textual", "IPython")


def test_every_public_name_can_be_imported() -> None:
    assert dir(tickdsl) == sorted(tickdsl.__all__)
    assert [name for name in tickdsl.__all__ if getattr(tickdsl, name, None) is None] == []


def test_type_checkers_see_the_names_that_are_imported_on_demand() -> None:
    tree = ast.parse((ROOT / "tickdsl" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == tickdsl._MODULES
    assert {*seen, "__version__"} == set(tickdsl.__all__)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_it'"):
        tickdsl.nothing_like_it  # type: ignore[attr-defined]  # noqa: B018


def test_the_import_loads_no_library() -> None:
    code = f"import sys, tickdsl; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert ran.stdout == "\n"


def test_plans_are_checked_without_torch() -> None:
    code = "import sys, tickdsl; tickdsl.check('data digits\\nfly', network=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_names_of_runs_and_results_load_neither_torch_nor_pandas() -> None:
    names = ("Finding", "Results", "RunError", "check", "format", "open_run", "parse", "run")
    code = f"import sys, tickdsl; [getattr(tickdsl, name) for name in {names}]\n"
    code += "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
