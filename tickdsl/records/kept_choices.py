"""Measured choices of a machine, kept in files: measured once, then every process makes the same choice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tickdsl.records.files import disk_error, write_atomically
from tickdsl.records.process import host_name

#: Yes or no, a number, or several numbers.
Answer = TypeVar("Answer", bool, float, list[float])


class KeptChoices:
    """The answers of this host in `folder`, one file each.

    A question contains everything that its answer depends on except the host. If several processes measure at the same
    time, the first answer counts for all. `log` receives each question once, with its answer. Raises TickdslError if
    `folder` cannot be written.
    """

    def __init__(self, folder: Path, log: Callable[[str, Any], None] = lambda question, answer: None) -> None:
        self._folder = folder
        self._log = log
        self._answers: dict[str, Any] = {}

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The kept answer; if there is none, the result of `measure`, which is kept from now on."""
        if question not in self._answers:
            path = self._folder / f"{hashlib.sha256(f'{host_name()} {question}'.encode()).hexdigest()[:32]}.json"
            answer = _read_answer(path)
            self._answers[question] = _write_if_absent(path, question, measure()) if answer is None else answer
            self._log(question, self._answers[question])
        kept: Answer = self._answers[question]
        return kept


def _read_answer(path: Path) -> Any:
    """The answer in a file; None if the file is missing or damaged."""
    try:
        return json.loads(path.read_bytes())["answer"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise disk_error(error, path) from error


def _write_if_absent(path: Path, question: str, answer: Any) -> Any:
    """Write an answer unless another process has; returns the answer that the file holds then."""
    content = json.dumps({"question": question, "host": host_name(), "answer": answer}, indent=1).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            existing = _read_answer(path)
            if existing is not None:
                return existing
            write_atomically(path, content)  # replaces a damaged file
    except OSError as error:
        raise disk_error(error, path) from error
    return answer
