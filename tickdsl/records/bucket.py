"""Objects in a bucket: S3, Google Cloud Storage or Azure, through obstore. What they mean is the business of others.

A bucket has no rename. What it has is a put on a condition: that there is no such object yet, or that it is still the
one that was seen. Everything that several machines could change at the same time is written so.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, TypeVar

import attrs

from tickdsl.errors import TickdslError
from tickdsl.moments import format_duration
from tickdsl.records.transfers import TRANSFERS, Transfers

T = TypeVar("T")

#: What obstore does about a request that fails, before it counts as one; on top of that, see `Bucket.patience`.
_RETRIES: dict[str, Any] = {"max_retries": 4, "retry_timeout": datetime.timedelta(seconds=20)}
_CHUNK_BYTES = 1 << 22
_WAITS = (1.0, 2.0, 5.0, 10.0)
_CREDENTIALS = (
    "credentials come from the environment (AWS_ACCESS_KEY_ID, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME, and "
    "their companions) or the machine's role"
)
_NO_CREDENTIALS, _NO_BUCKET = "no credentials were found", "there is no such bucket"
#: How refusals read, which no patience changes; in other words, if the service's say little; and what to do about each.
_REFUSALS = (
    (("NoSuchBucket", "ContainerNotFound", "specified bucket does not"), _NO_BUCKET, "create it, or check the name"),
    (("169.254.169.254", "169.254.170.2", "metadata.google", "Account must be"), _NO_CREDENTIALS, _CREDENTIALS),
    (("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "401 Unauth"), "", f"check them: {_CREDENTIALS}"),
    (("AccessDenied", "403 Forbidden"), "", "the credentials must allow to list, read, write and delete there"),
    (("PermanentRedirect", "AuthorizationHeaderMalformed"), "", "name the region of the bucket in AWS_REGION"),
)  # fmt: skip
_UNREACHABLE = "check the network and, for others than Amazon, AWS_ENDPOINT_URL; then run the same command again"


@attrs.frozen
class BucketObject:
    """An object below the URL of a bucket: its size in bytes, its version, and when it was written (since 1970)."""

    path: str
    size: int
    etag: str
    written: float


class Bucket:
    """The objects below a URL such as `s3://bucket/prefix`.

    Requests that fail for a moment are repeated: for a few seconds, and while `patience` (in seconds) is not zero, for
    that long, which `tell` is told once. Every method raises TickdslError if the bucket cannot be read or written.
    """

    def __init__(self, url: str, tell: Callable[[str], None] = lambda message: None) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            hint = 'run `pip install "tickdsl[s3]"`'
            raise TickdslError(f"{url} needs obstore, which is not installed", hint) from error
        self.url = url.rstrip("/")
        self.patience = 0.0
        self._tell = tell
        self._obstore: Any = obstore
        try:
            connect: Any = from_url  # its overloads are by the scheme of the URL
            self._store: Any = connect(self.url, retry_config=_RETRIES)
        except Exception as error:  # obstore's own errors share no public base
            raise self._error("opened", error) from error

    def get(self, path: str) -> tuple[bytes, str] | None:
        """The content of an object and its version; None if there is none."""

        def request() -> tuple[bytes, str]:
            found = self._obstore.get(self._store, path)
            return bytes(found.bytes()), str(found.meta["e_tag"])

        try:
            content, etag = self._ask("read", request)
        except FileNotFoundError:
            return None
        TRANSFERS.add(Transfers(received=len(content)))
        return content, etag

    def fetch(self, path: str, target: Path) -> bool:
        """Write the content of an object to a file; returns whether there is one."""

        def request() -> None:
            found = self._obstore.get(self._store, path)
            with target.open("wb") as file:
                for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                    file.write(chunk)

        try:
            self._ask("read", request)
        except FileNotFoundError:
            return False
        TRANSFERS.add(Transfers(received=target.stat().st_size))
        return True

    def put(self, path: str, content: bytes | Path) -> str:
        """Write an object, whether there is one or not; returns its version."""
        etag = self._ask("written", lambda: str(self._obstore.put(self._store, path, content)["e_tag"]))
        TRANSFERS.add(Transfers(sent=content.stat().st_size if isinstance(content, Path) else len(content)))
        return etag

    def create(self, path: str, content: bytes) -> str | None:
        """Write an object that does not exist; returns its version, None if there is one with another content."""
        return self._put_if(path, content, "create")

    def replace(self, path: str, content: bytes, etag: str) -> str | None:
        """Write an object that still has this version; returns the new one, None if it has another by now."""
        return self._put_if(path, content, {"e_tag": etag})

    def delete(self, paths: Collection[str]) -> None:
        """Delete objects; those that do not exist are none the worse."""
        if paths:
            try:
                self._ask("written", lambda: self._obstore.delete(self._store, sorted(paths)))
            except FileNotFoundError:  # some services say so
                if len(paths) > 1:
                    for path in paths:
                        self.delete([path])

    def objects(self, folder: str) -> list[BucketObject]:
        """The objects in a folder, and in those within, sorted by path."""

        def request() -> list[BucketObject]:
            chunks = self._obstore.list(self._store, folder, chunk_size=1000)
            return [
                BucketObject(item["path"], item["size"], str(item["e_tag"]), item["last_modified"].timestamp())
                for chunk in chunks
                for item in chunk
            ]

        return sorted(self._ask("read", request), key=lambda found: found.path)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        request = lambda: self._obstore.list_with_delimiter(self._store, folder)["common_prefixes"]  # noqa: E731
        return sorted(Path(path).name for path in self._ask("read", request))

    def _put_if(self, path: str, content: bytes, mode: Any) -> str | None:
        def request() -> str:
            done = self._obstore.put(self._store, path, content, mode=mode, use_multipart=False)
            return str(done["e_tag"])

        try:
            etag = self._ask("written", request)
        except (self._obstore.exceptions.AlreadyExistsError, self._obstore.exceptions.PreconditionError):
            # Perhaps by this very request: its answer was lost, and it was repeated.
            found = self.get(path)
            return found[1] if found is not None and found[0] == content else None
        TRANSFERS.add(Transfers(sent=len(content)))
        return etag

    def _ask(self, verb: Literal["read", "written"], request: Callable[[], T]) -> T:
        """The answer to a request; passes on that there is no such object, or that a condition does not hold."""
        exceptions, deadline, attempt = self._obstore.exceptions, None, 0
        while True:
            TRANSFERS.add(Transfers(requests=1))
            try:
                answer = request()
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                raise
            except Exception as error:
                refused = _refusal(error) is not None
                if isinstance(error, OSError) and not refused:  # there is no such object, or the disk here is full
                    raise
                failure = self._error(verb, error)
                now = time.monotonic()
                if deadline is None and self.patience and not refused:
                    deadline = now + self.patience
                    self._tell(f"{failure.message}; trying again for {format_duration(self.patience)}")
                if deadline is None or refused or now >= deadline:
                    raise failure from error
                time.sleep(min(_WAITS[min(attempt, len(_WAITS) - 1)], max(0.0, deadline - now)))
                attempt += 1
            else:
                if deadline is not None:
                    self._tell(f"{self.url} can be reached again")
                return answer

    def _error(self, verb: str, error: Exception) -> TickdslError:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason, hint = _refusal(error) or ("", _UNREACHABLE)
        return TickdslError(f"{self.url} cannot be {verb}: {reason or (lines or [type(error).__name__])[0]}", hint)


def _refusal(error: Exception) -> tuple[str, str] | None:
    """What a refusal means, if its own words do not say it, and what to do; None for other errors, which may pass."""
    text = str(error)
    return next(((reason, hint) for words, reason, hint in _REFUSALS if any(word in text for word in words)), None)
