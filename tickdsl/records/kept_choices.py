"""What a machine was found to do faster, kept beside the results: measured once, then every process chooses alike."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tickdsl.records.files import disk_error, write_atomically
from tickdsl.records.process import host_name

#: Whether something is so, or a figure.
Answer = TypeVar("Answer", bool, float)


class KeptChoices:
    """Answers in `folder`, one file each, of this host.

    A question names all that its answer depends on beside the host. Of processes that measure at the same time, the
    first answer counts for all. `say` is told each answer once. Raises TickdslError where `folder` cannot be written.
    """

    def __init__(self, folder: Path, log: Callable[[str], None] = lambda message: None) -> None:
        self._folder = folder
        self._log = log
        self._answers: dict[str, Any] = {}

    def settle(self, question: str, measure: Callable[[], Answer]) -> Answer:
        """The kept answer; that of `measure`, from now on, where there is none."""
        if question not in self._answers:
            path = self._folder / f"{hashlib.sha256(f'{host_name()} {question}'.encode()).hexdigest()[:32]}.json"
            answer = _read_answer(path)
            self._answers[question] = _write_if_absent(path, question, measure()) if answer is None else answer
            self._log(f"{question}: {_answer_text(self._answers[question])}, as measured on {host_name()}")
        kept: Answer = self._answers[question]
        return kept


def _answer_text(answer: bool | float) -> str:
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return f"{answer:.3g}" if math.isfinite(answer) else "none"


def _read_answer(path: Path) -> Any:
    """The answer in a file; None where there is none that is whole."""
    try:
        return json.loads(path.read_bytes())["answer"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise disk_error(error, path) from error


def _write_if_absent(path: Path, question: str, answer: Any) -> Any:
    """Write an answer where nobody did meanwhile; the one that is there afterwards."""
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
            write_atomically(path, content)  # it was damaged
    except OSError as error:
        raise disk_error(error, path) from error
    return answer
