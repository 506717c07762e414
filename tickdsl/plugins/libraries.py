"""Libraries of networks that tickdsl can build by name if they are installed: timm and transformers.

Their names are read from the source of the installed release. Nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from tickdsl.plugins.entry_points import PluginError

_REGISTERED = re.compile(r"^@register_model\s*\n(?:@[^\n]*\n)*def (\w+)\(", re.MULTILINE)
#: What networks of transformers are made for, and the tables of `modeling_auto.py` that list their types.
_HF_TABLES = {
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES": "images",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": "sequences",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "language",
}


@attrs.frozen
class Library:
    """A library of networks, which plans name `PREFIX.NAME`.

    package: its distribution, which is imported as `module`. extra: the extra of tickdsl that installs it.
    """

    prefix: str
    package: str
    module: str
    extra: str

    @property
    def is_installed(self) -> bool:
        """Whether the library can be imported. Nothing is imported for it."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The version of the installed distribution; empty if there is none."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""

    @property
    def missing(self) -> PluginError:
        """The error for a plan that names a network of the library where it is not installed."""
        return PluginError(f"{self.package} is not installed", f'install it: pip install "tickdsl[{self.extra}]"')

    def names(self) -> Mapping[str, tuple[str, ...]]:
        """The networks without the prefix -> what they are made for: `images`, `sequences` or `language`.

        Empty if the library is not installed.
        """
        return _names(self.prefix) if self.is_installed else {}

    def base_name(self, name: str) -> str:
        """The name of a network of this library without the prefix and without the tag of its weights."""
        base = name.removeprefix(f"{self.prefix}.")
        return base.partition(".")[0] if self.prefix == "timm" else base

    def has(self, name: str) -> bool:
        """Whether the library has a network of this name, which begins with the prefix."""
        return self.base_name(name) in self.names()


LIBRARIES = {
    library.prefix: library
    for library in (Library("timm", "timm", "timm", "timm"), Library("hf", "transformers", "transformers", "hf"))
}


def library_of(name: str) -> Library | None:
    """The library that a name such as `timm.resnet18` belongs to; None for all other names."""
    prefix, dot, rest = name.partition(".")
    return LIBRARIES.get(prefix) if dot and rest and ":" not in name else None


def library_identity(name: str, options: Mapping[str, Any]) -> str:
    """What identifies the code of a network of a library: its name, the release, and the configuration in a folder.

    options: those of the model in the plan. Raises PluginError if the library is not installed.
    """
    library = library_of(name)
    if library is None:
        raise ValueError(f"{name} is of no library")
    if not library.is_installed:
        raise library.missing
    parts = [name, library.package, library.version]
    configuration = Path(str(options["config"])) / "config.json" if options.get("config") else None
    if configuration is not None and configuration.is_file():
        parts.append(hashlib.sha256(configuration.read_bytes()).hexdigest())
    return " ".join(parts)


def _folder(library: Library) -> Path:
    spec = importlib.util.find_spec(library.module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


@functools.cache
def _names(prefix: str) -> Mapping[str, tuple[str, ...]]:
    folder = _folder(LIBRARIES[prefix])
    return _timm_names(folder) if prefix == "timm" else _hf_names(folder)


def _timm_names(folder: Path) -> dict[str, tuple[str, ...]]:
    names: set[str] = set()
    for file in (folder / "models").glob("*.py"):
        text = file.read_text(encoding="utf-8", errors="replace")
        names.update(_REGISTERED.findall(text))
    return dict.fromkeys(sorted(names), ("images",))


def _hf_names(folder: Path) -> dict[str, tuple[str, ...]]:
    purposes: dict[str, tuple[str, ...]] = {}
    file = folder / "models" / "auto" / "modeling_auto.py"
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    for statement in tree.body:
        if not (isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)):
            continue
        purpose = _HF_TABLES.get(statement.targets[0].id)
        if purpose is None or not isinstance(statement.value, ast.Call) or not statement.value.args:
            continue
        for name in _first_words(statement.value.args[0]):
            purposes[name] = (*purposes.get(name, ()), purpose)
    return dict(sorted(purposes.items()))


def _first_words(table: ast.expr) -> Iterator[str]:
    """The keys of a table that is written as a list of pairs."""
    for pair in table.elts if isinstance(table, ast.List) else ():
        if isinstance(pair, ast.Tuple) and pair.elts and isinstance(pair.elts[0], ast.Constant):
            yield str(pair.elts[0].value)
