"""The syntax tree of code as text: equal for code that differs only in comments, layout and docstrings."""

from __future__ import annotations

import ast
from typing import Any

#: Fields that say nothing about what the code does, or that follow from the rest of the tree.
_IGNORED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def syntax_text(node: Any) -> str:
    """A syntax tree, or a part of one, as text without positions and docstrings.

    Unlike `ast.dump`, it is the same for every version of Python that can parse the code: new versions add fields,
    which are empty for older code. Raises RecursionError for a very deep tree.
    """
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            fields["body"] = node.body[1:]
        shown = {name: value for name, value in fields.items() if not _is_empty(value) and name not in _IGNORED_FIELDS}
        return f"{type(node).__name__}({', '.join(f'{name}={syntax_text(shown[name])}' for name in sorted(shown))})"
    if isinstance(node, list):
        return f"[{', '.join(map(syntax_text, node))}]"
    return repr(node)


def _is_empty(value: Any) -> bool:
    return value is None or value == []
