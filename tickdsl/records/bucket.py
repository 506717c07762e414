"""Results in a bucket: S3, Google Cloud Storage or Azure, through obstore. The layout is that of a store's folder.

    URL/results/ab/abcdef…/{result.json, …}

A bucket has no rename, so the record of a result is written last, and once: who finds it finds the whole result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError
from tickdsl.records.result_record import NAME as RECORD
from tickdsl.records.result_record import Damaged, check_record
from tickdsl.records.store import is_key

SCHEMES = ("s3", "gs", "az")
_HINT = "credentials come from the environment (for S3, AWS_ACCESS_KEY_ID and its companions) or the machine's role"


def is_bucket(location: str) -> bool:
    """Whether a location is a bucket and no folder."""
    return location.partition("://")[0] in SCHEMES and "://" in location


class Bucket:
    """The results below a URL such as `s3://bucket/prefix`.

    Every method raises TickdslError if the bucket cannot be reached, read or written; requests that fail for a moment
    are repeated by obstore.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            hint = 'run `pip install "tickdsl[s3]"`'
            raise TickdslError(f"{url} needs obstore, which is not installed", hint) from error
        self.url = url.rstrip("/")
        self._obstore: Any = obstore
        try:
            self._store: Any = from_url(self.url)
        except Exception as error:  # obstore's own errors share no public base
            raise self._error("opened", error) from error

    def keys(self) -> set[str]:
        """The keys of all complete results."""
        try:
            listed = self._obstore.list(self._store, "results/", chunk_size=1000)
            paths = [Path(item["path"]) for chunk in listed for item in chunk]
        except Exception as error:
            raise self._error("read", error) from error
        return {path.parent.name for path in paths if path.name == RECORD and is_key(path.parent.name)}

    def download(self, key: str, folder: Path) -> None:
        """Write the files of a result, and its record, into `folder`; whether they match is not checked.

        Raises Damaged if a file is missing, or if the record is not one of this result.
        """
        text = self._get(f"{_place(key)}/{RECORD}")
        for name in check_record(text, key)["files"]:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise Damaged(f"it has a file {name}")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._get(f"{_place(key)}/{name}"))
        (folder / RECORD).write_bytes(text)

    def upload(self, key: str, folder: Path) -> bool:
        """Write a result whose files are in `folder`; returns whether it is new: another upload may have been first."""
        record = folder / RECORD
        names = json.loads(record.read_bytes())["files"]
        try:
            for name in names:
                self._obstore.put(self._store, f"{_place(key)}/{name}", folder / name)
            self._obstore.put(self._store, f"{_place(key)}/{RECORD}", record, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        except Exception as error:
            raise self._error("written", error) from error
        return True

    def _get(self, path: str) -> bytes:
        try:
            return bytes(self._obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            raise Damaged(f"{Path(path).name} is missing") from None
        except Exception as error:
            raise self._error("read", error) from error

    def _error(self, verb: str, error: Exception) -> TickdslError:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return TickdslError(f"{self.url} cannot be {verb}: {reason}", _HINT)


def _place(key: str) -> str:
    return f"results/{key[:2]}/{key}"
