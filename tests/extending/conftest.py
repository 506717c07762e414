"""A sandbox for plug-in modules and fake installed packages."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

from tickdsl.checks import CheckReport, check
from tickdsl.lang.reading.include import load_source
from tickdsl.lang.syntax import Source
from tickdsl.plugins import entry_points, loading, permission

_NUMBER = itertools.count()


@attrs.frozen
class PluginSandbox:
    """`folder` is on sys.path. Every module gets a unique name, because imported modules stay loaded."""

    folder: Path

    def module(self, text: str) -> str:
        """Write a module and return its name."""
        name = f"own_{next(_NUMBER)}"
        (self.folder / f"{name}.py").write_text(dedent(text), "utf-8")
        return name

    def install(self, package: str, **groups: dict[str, str]) -> None:
        """Write the metadata of an installed package with entry points in `groups` (models, criteria, …)."""
        info = self.folder / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[tickdsl.{group}]", *(f"{name} = {target}" for name, target in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        entry_points.scan_entry_points.cache_clear()

    def check(self, text: str, *, network: bool = True) -> CheckReport:
        return check(load_source(Source("own.plan", text)), network=network, data=self.folder / "data")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSandbox]:
    """A sandbox in which quoted names may run code."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(permission, "_allowed", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    entry_points.scan_entry_points.cache_clear()
    before = set(sys.modules)
    yield PluginSandbox(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]
    entry_points.scan_entry_points.cache_clear()
    loading.code_identity.cache_clear()
