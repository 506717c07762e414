"""A bucket in memory whose requests fail at random: before they do anything, or after, so that their answer is lost."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import obstore
import pytest
from obstore.store import MemoryStore

_REQUESTS = ("put", "get", "list", "list_with_delimiter", "delete")


@attrs.define
class MemoryBucket:
    """All buckets of this process while `connected`; `share` is the part of the requests that fails.

    `before_failure` is called where a request fails, and may raise something else.
    """

    draw: random.Random = attrs.field(factory=random.Random)
    share: float = 0.0
    before_failure: Callable[[], None] = lambda: None
    failures: int = 0
    requests: int = 0
    is_down: bool = False
    down_because: str = "Generic S3 error: connection refused"
    stores: dict[str, MemoryStore] = attrs.field(factory=dict)

    def store(self, url: str) -> MemoryStore:
        """The objects of a URL, without failures."""
        return self.stores.setdefault(url.rstrip("/"), MemoryStore())

    def paths(self, url: str, folder: str = "") -> list[str]:
        """The paths of all objects in a folder."""
        return sorted(item["path"] for chunk in _LIST(self.store(url), folder or None) for item in chunk)

    def read(self, url: str, path: str) -> bytes:
        return bytes(_GET(self.store(url), path).bytes())

    def write(self, url: str, path: str, content: bytes) -> None:
        _PUT(self.store(url), path, content)

    @contextlib.contextmanager
    def connected(self) -> Iterator[MemoryBucket]:
        """Every URL of a bucket leads to this one until the block ends; nobody waits between two attempts."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("obstore.store.from_url", lambda url, **options: self.store(url))
            patched.setattr("tickdsl.records.bucket._WAITS", (0.0,))
            for name in _REQUESTS:
                patched.setattr(obstore, name, self._unreliable(getattr(obstore, name)))
            yield self

    def _unreliable(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            self.requests += 1
            if self.is_down:
                raise obstore.exceptions.GenericError(self.down_because)
            failure = self.draw.choice(("before", "after")) if self.draw.random() < self.share else None
            if failure == "before":
                self._fail()
            answer = request(*arguments, **options)
            if request is _LIST:
                answer = list(answer)
            if failure == "after":
                self._fail()
            return answer

        return ask

    def _fail(self) -> None:
        self.failures += 1
        self.before_failure()
        raise obstore.exceptions.GenericError("Generic S3 error: connection reset")


_LIST, _GET, _PUT = obstore.list, obstore.get, obstore.put
