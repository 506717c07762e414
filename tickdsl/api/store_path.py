"""The store that an argument names: a folder or a bucket."""

from __future__ import annotations

import os
from pathlib import Path

from tickdsl.argument_types import require_path
from tickdsl.records.bucket_location import is_bucket, open_cache


def require_store_path(value: str | os.PathLike[str]) -> Path:
    """The folder of a store, or that of the cache on this machine for one in a bucket such as `s3://bucket/prefix`.

    Raises TickdslError if it is neither.
    """
    if isinstance(value, str) and is_bucket(value):
        return open_cache(value)
    return require_path(value, "store").absolute()  # so that the results are found from another working folder
