"""Identify a process across hosts and restarts, and tell whether it is alive."""

from __future__ import annotations

import functools
import os
import re
import socket
from pathlib import Path

import attrs


@attrs.frozen
class Process:
    """A process, identified uniquely across hosts, restarts of a host and containers."""

    host: str
    boot: str
    pid: int

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(host_name(), boot_id(), os.getpid())

    @property
    def token(self) -> str:
        """The process as a file name."""
        return f"{self.host}~{self.boot}~{self.pid}"

    @classmethod
    def from_token(cls, token: str) -> Process | None:
        """The process of a token, or of a name that starts with a token and `~`; None for other names."""
        match = re.match(r"([^~]+)~([^~]+)~(\d{1,10})(?:~|$)", token)
        return cls(match[1], match[2], int(match[3])) if match else None

    def alive(self) -> bool | None:
        """Whether the process is running; None if that cannot be known here (it is on another host)."""
        if _file_name_safe(self.host) != host_name():
            return None
        if self.boot != boot_id():
            # The host was restarted, or the process belongs to another container with the same host name.
            return False if self.boot.split(".")[0] != boot_id().split(".")[0] else None
        return _is_running(self.pid)


@functools.cache
def host_name() -> str:
    """The name of this host, with only characters that every file system allows."""
    return _file_name_safe(socket.gethostname())


def _file_name_safe(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", host) or "localhost"


@functools.cache
def boot_id() -> str:
    """An id of this boot of the host and of this namespace of process ids; "0" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
        pid_namespace = re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return "0"
    return f"{boot}.{pid_namespace}"


def _is_running(pid: int) -> bool:
    if pid <= 0 or pid > 2**31 - 1:
        return False
    if os.name == "nt":
        return True  # os.kill would end the process on Windows; a stale draft does less harm
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]
