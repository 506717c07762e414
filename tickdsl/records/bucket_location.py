"""Where a store is: a folder, or a bucket with a folder on this machine that caches what was read from it.

    CACHE/NAME-HASH/bucket.json     the URL of the bucket, and how large the cache may become

Whoever is handed the folder finds the bucket by this file, so a store is a `Path` everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import attrs

from tickdsl.errors import TickdslError
from tickdsl.records.files import disk_error, write_atomically

SCHEMES = ("s3", "gs", "az")
DEFAULT_LIMIT = 20 * 10**9
_FILE = "bucket.json"


@attrs.frozen
class CachedBucket:
    """The bucket at `url`, and the folder `root` on this machine with results from it, of at most `limit` bytes."""

    url: str
    root: Path
    limit: int


def is_bucket(location: str) -> bool:
    """Whether a location is a bucket and no folder."""
    return location.partition("://")[0] in SCHEMES and "://" in location


def bucket_name(url: str) -> str:
    """The name of the bucket in a URL such as `s3://bucket/prefix`."""
    return url.partition("://")[2].partition("/")[0]


def open_cache(url: str, cache: Path | None = None, limit: int | None = None) -> Path:
    """The folder on this machine for a bucket, made if there is none; None leaves what was chosen before.

    It is in the folder `cache`: by default `$TICKDSL_CACHE`, else `tickdsl/buckets` in the user's cache directory.
    Raises TickdslError if the URL names no bucket, or the folder cannot be written.
    """
    url = url.rstrip("/")
    if not bucket_name(url):
        raise TickdslError(f"{url} names no bucket", "write s3://BUCKET/PREFIX")
    name = re.sub(r"[^\w.-]+", "-", url.partition("://")[2]).strip("-.")[:60]
    root = (cache or _default_cache()) / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    known = cached_bucket(root)
    if known is None or (limit is not None and limit != known.limit):
        content = {"v": 1, "url": url, "limit": limit or DEFAULT_LIMIT}
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TickdslError(disk_error(error, root).message, "name a folder for the cache with --cache") from error
        write_atomically(root / _FILE, json.dumps(content).encode())
    return root.absolute()


def cached_bucket(root: Path) -> CachedBucket | None:
    """The bucket that the folder `root` caches; None if that is a store itself."""
    try:
        content = json.loads((root / _FILE).read_bytes())
        return CachedBucket(str(content["url"]), root, int(content["limit"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise disk_error(error, root / _FILE, "read") from error
    except (ValueError, KeyError, TypeError):
        raise TickdslError(f"{root / _FILE} is damaged", f"delete the folder {root}, which is a cache") from None


def store_name(root: Path) -> str:
    """The store as users name it: the URL of its bucket, or its folder."""
    bucket = cached_bucket(root)
    return str(root) if bucket is None else bucket.url


def store_folder(name: str) -> Path:
    """The folder of a store that `store_name` has named; that of the cache, for a bucket."""
    return open_cache(name) if is_bucket(name) else Path(name)


def _default_cache() -> Path:
    if named := os.environ.get("TICKDSL_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "tickdsl" / "buckets"
    except RuntimeError:
        raise TickdslError("there is no home directory for a cache", "name a folder with --cache") from None
