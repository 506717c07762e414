"""A folder that several machines share as they share a network disk, for simulated processes in one real one.

What one machine writes, others see late: that a path was missing, and what is in a folder, is remembered for a while.
Reads fail with ESTALE, the answer to a rename is lost and the rename is repeated, and every clock is off by hours.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

_REAL_TIME = time.time


@attrs.define
class NetworkDisk:
    """The disk that has the folder `root`; `machine` tells which machine asks, `now` the time in seconds.

    `memory`: for how long a machine remembers what it has seen of a folder. `share`: the part of reads that go wrong;
    `lost`: that of renames, which are rarer. `counts`: how often what has gone wrong.
    """

    root: Path
    draw: random.Random
    machine: Callable[[], int]
    now: Callable[[], float]
    memory: float = 2.0
    share: float = 0.02
    lost: float = 0.1
    counts: dict[str, int] = attrs.field(factory=dict)
    _missing: dict[tuple[int, str], float] = attrs.field(factory=dict)  # by machine and path: until when
    _listed: dict[tuple[int, str], tuple[float, list[str]]] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[NetworkDisk]:
        """Paths below `root` are on this disk until the block ends."""
        real_stat, real_open, real_listdir = os.stat, io.open, os.listdir
        real_mkdir, real_rename, real_replace = os.mkdir, os.rename, os.replace

        def stat(path: Any, *more: Any, **options: Any) -> os.stat_result:
            if not self._is_mine(path, options):
                return real_stat(path, *more, **options)
            return self._seeing(path, lambda: real_stat(path, *more, **options))

        def open_file(path: Any, mode: str = "r", *more: Any, **options: Any) -> Any:
            if not self._is_mine(path, {}):
                return real_open(path, mode, *more, **options)
            if set(mode) & set("wxa"):
                opened = real_open(path, mode, *more, **options)
                self._wrote(path)
                return opened
            self._fail_sometimes("ESTALE", errno.ESTALE, path)
            return self._seeing(path, lambda: real_open(path, mode, *more, **options))

        def listdir(path: Any = ".") -> list[str]:
            if not self._is_mine(path, {}):
                return real_listdir(path)
            key = self.machine(), os.fspath(path)
            until, names = self._listed.get(key, (0.0, []))
            if self.now() >= until:
                names = self._seeing(path, lambda: real_listdir(path))
                self._listed[key] = self.now() + self.memory, names
            elif names != real_listdir(path):
                self._count("stale list")
            return list(names)

        def mkdir(path: Any, *more: Any, **options: Any) -> None:
            try:
                real_mkdir(path, *more, **options)
            finally:  # the server has answered, that it exists too
                if self._is_mine(path, options):
                    self._wrote(path)

        def renaming(real: Callable[..., None]) -> Callable[..., None]:
            def rename(source: Any, target: Any, **options: Any) -> None:
                real(source, target, **options)
                if self._is_mine(target, options):
                    self._wrote(source)
                    self._wrote(target)
                    if self.draw.random() < self.lost:  # the server has done it, and is asked once more
                        self._count("lost reply")
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(source))

            return rename

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "stat", stat)
            patched.setattr(io, "open", open_file)
            patched.setattr(os, "listdir", listdir)
            patched.setattr(os, "mkdir", mkdir)
            patched.setattr(os, "rename", renaming(real_rename))
            patched.setattr(os, "replace", renaming(real_replace))
            patched.setattr(time, "time", lambda: _REAL_TIME() + 3600.0 * (self.machine() - 1))
            yield self

    def _is_mine(self, path: Any, options: dict[str, Any]) -> bool:
        if isinstance(path, int) or options.get("dir_fd") is not None or options.get("src_dir_fd") is not None:
            return False
        return os.fspath(path).startswith(str(self.root)) if isinstance(path, str | os.PathLike) else False

    def _seeing(self, path: Any, look: Callable[[], Any]) -> Any:
        """What a machine sees at a path: for a while, that there is nothing, if it has seen nothing there."""
        key = self.machine(), os.fspath(path)
        if self.now() < self._missing.get(key, 0.0):
            if os.path.lexists(path):
                self._count("stale absence")
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key[1])
        try:
            return look()
        except FileNotFoundError:
            self._missing[key] = self.now() + self.memory
            raise

    def _wrote(self, path: Any) -> None:
        """A machine sees at once what it has changed itself, what is within, and what is beside it."""
        machine, text = self.machine(), os.fspath(path)
        beside = f"{Path(text).parent}{os.sep}"
        for key in [key for key in self._missing if key[0] == machine]:
            if key[1].startswith(text) or (key[1].startswith(beside) and os.sep not in key[1][len(beside) :]):
                del self._missing[key]
        for key in [key for key in self._listed if key[0] == machine]:
            if key[1].startswith(text) or key[1] == str(Path(text).parent):
                del self._listed[key]

    def _fail_sometimes(self, kind: str, number: int, path: Any) -> None:
        if self.draw.random() < self.share:
            self._count(kind)
            raise OSError(number, os.strerror(number), os.fspath(path))

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
