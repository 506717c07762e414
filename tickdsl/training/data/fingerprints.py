"""The fingerprints of data sets, from the files that they would be read from and their options; torch is not loaded."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tickdsl.errors import TickdslError, UnreadableDataError
from tickdsl.plugins import PluginError
from tickdsl.training.catalogue import DATASETS, Option
from tickdsl.training.catalogue.datasets import PLACE_OPTIONS
from tickdsl.training.data.sources import find_source

_FINGERPRINT_VERSION = 1


def fingerprint(name: str, *, root: Path | str = "data", options: Mapping[str, Any] | None = None) -> str:
    """The fingerprint of the data set that `load` would return.

    Only an image folder is decoded for it, once: what is in the images decides by which rules they are read.
    """
    options_with_defaults = with_defaults(name, options)
    with readable(name):
        source = find_source(name, Path(root), options_with_defaults)
        return fingerprint_of(name, source.digest(), source.rules(), options_with_defaults)


def skipped(name: str, *, root: Path | str = "data", options: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """The notes of the data set that `load` would return, as far as they hang on files outside its fingerprint."""
    with readable(name):
        return find_source(name, Path(root), with_defaults(name, options)).skipped()


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Turn errors of the operating system and of readers into UnreadableDataError; those of plug-ins stay."""
    try:
        yield
    except PluginError:
        raise
    except TickdslError as error:
        raise UnreadableDataError(error.message, error.hint) from error
    except OSError as error:
        place = error.filename or "a file"
        reason = error.strerror or error
        raise UnreadableDataError(f"{name}: cannot read {place}: {reason}", "check its permissions") from error


def with_defaults(name: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """All options of a data set, with defaults filled in. Raises TickdslError if one is unknown or out of range."""
    if name not in DATASETS:
        raise TickdslError(f"unknown data set `{name}`", f"use one of {', '.join(DATASETS)}")
    schema = DATASETS[name].options
    for key, value in (options or {}).items():
        if key not in schema:
            raise TickdslError(f"{name} has no option `{key}`", f"its options are {', '.join(schema)}")
        _check_option(name, key, value, schema[key])
    return {key: option.default for key, option in schema.items()} | dict(options or {})


def _check_option(name: str, key: str, value: Any, option: Option) -> None:
    expected_type: Any = option.type
    if not isinstance(value, expected_type) or isinstance(value, bool) is not (expected_type is bool):
        raise TickdslError(f"{name}: {key}={value!r} must be of type {expected_type.__name__}", option.summary)
    if value != option.default and (requirement := option.requirement_missed_by(value)):
        raise TickdslError(f"{name}: {key}={value} must be {requirement}", option.summary)
    if option.is_share and not 0 <= value < 1:
        raise TickdslError(f"{name}: {key}={value} must be a share below 1", option.summary)


def fingerprint_of(name: str, files_digest: str, rules: tuple[str, ...], options: Mapping[str, Any]) -> str:
    """The fingerprint from the files' digest and the options, without places: moving files does not change it."""
    defaults = DATASETS[name].options
    changed = {k: v for k, v in sorted(options.items()) if k not in PLACE_OPTIONS and v != defaults[k].default}
    text = json.dumps([_FINGERPRINT_VERSION, name, files_digest, changed, *([list(rules)] if rules else [])])
    return hashlib.sha256(text.encode()).hexdigest()
