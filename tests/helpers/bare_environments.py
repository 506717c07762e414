"""Virtual environments that hold one library with what it requires, and nothing else: no tickdsl, no torchvision."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def bare_environment(folder: Path, *names: str) -> Path:
    """A new virtual environment in `folder` that links these distributions and their requirements: its interpreter."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    paths = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = Path(paths.stdout.strip())
    for found in {found.metadata["Name"]: found for name in names for found in _with_requirements(name)}.values():
        for part in _top_level(found):
            link = packages / part
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(part))).resolve())
    return python


def _with_requirements(name: str) -> Iterator[Distribution]:
    """An installed distribution and all that it requires here; extras and what is not installed are left out."""
    waiting, seen = [name], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        yield found
        requirements = map(Requirement, found.requires or ())
        waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _top_level(found: Distribution) -> set[str]:
    """The names of a distribution's files and folders in `site-packages`."""
    parts = {file.parts[0] for file in found.files or ()}
    return {part for part in parts if part != ".." and part != "__pycache__"}


def importable(python: Path, *names: str) -> list[bool]:
    """Whether an interpreter can import each of these packages."""
    code = f"import importlib.util as i; print(*(i.find_spec(name) is not None for name in {names!r}))"
    result = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=sys.prefix)
    return [word == "True" for word in result.stdout.split()]
