"""A folder for code that a plan names, and packages that register it, as this process sees them."""

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
    """`folder` is on the path; every module has a name of its own, because modules stay imported."""

    folder: Path

    def module(self, text: str) -> str:
        """A module of that text; its name."""
        name = f"own_{next(_NUMBER)}"
        (self.folder / f"{name}.py").write_text(dedent(text), "utf-8")
        return name

    def install(self, package: str, **groups: dict[str, str]) -> None:
        """What `pip install` leaves of a package that registers `groups` (models, criteria, …)."""
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
    """Code is allowed."""
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
