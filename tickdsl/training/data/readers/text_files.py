"""Text files as a corpus to predict the next token of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.readers import tokens
from tickdsl.training.data.readers.raw_dataset import RawDataset

#: The share of a text that is tested on if no files are for that.
_TEST_SHARE = 0.1
_SUFFIXES = ("", ".txt", ".text", ".md")
#: The names of files and folders for training and for testing.
_TRAIN, _TEST = ("train", "training"), ("test", "val", "valid", "validation")


@attrs.frozen
class TextFiles:
    """A text file, or a folder with text files in any depth, as sequences of `length` tokens.

    tokenizer: the path of a `tokenizer.json`, or "" for bytes. test_share: the share at the end of the text to test on;
    0 for a tenth, or for the files of the folder that are for testing.
    """

    path: Path
    length: int
    tokenizer: str
    test_share: float

    def digest(self) -> str:
        """The hex SHA-256 of the files' contents, in order, and of the tokenizer's."""
        train, test = self._files()
        parts = [files_digest(files) for files in (train, test)]
        return "/".join([*parts, *([files_digest([Path(self.tokenizer)])] if self.tokenizer else [])])

    def read(self) -> RawDataset:
        """The corpus. Raises TickdslError if a file is empty, is not UTF-8, or the text is too short."""
        tokenizer = tokens.find_tokenizer(self.tokenizer)
        vocabulary = len(tokenizer.names)
        train_files, test_files = self._files()
        inputs, targets = tokens.sequences(self._stream(train_files, tokenizer), self.length, vocabulary)
        if test_files:
            test_inputs, test_targets = tokens.sequences(self._stream(test_files, tokenizer), self.length, vocabulary)
        else:
            count = max(1, round((self.test_share or _TEST_SHARE) * len(inputs)))
            split = max(0, len(inputs) - count)
            (inputs, test_inputs), (targets, test_targets) = (np.split(part, [split]) for part in (inputs, targets))
        for part, found in (("train", inputs), ("test", test_inputs)):
            if not len(found):
                raise TickdslError(
                    f"{self.path} has too little text to {part} on: at most {plural(self.length, 'token')}",
                    "add text, or use a smaller `length=`",
                )
        return RawDataset(
            inputs, targets, test_inputs, test_targets, tokenizer.names, task="language", vocabulary=vocabulary
        )

    def _stream(self, files: Sequence[Path], tokenizer: tokens.Tokenizer) -> NDArray[Any]:
        return np.concatenate([self._encoded(file, tokenizer) for file in files])

    def _encoded(self, file: Path, tokenizer: tokens.Tokenizer) -> NDArray[Any]:
        content = file.read_bytes()
        if not content.strip():
            raise TickdslError(f"{file} is empty", "remove it, or put text into it")
        if not self.tokenizer:  # bytes are bytes, whatever their encoding
            return np.frombuffer(content, dtype=np.uint8)
        return tokenizer.encode(tokens.decode(content, file))

    def _files(self) -> tuple[list[Path], list[Path]]:
        """The files for training and for testing, sorted by name; none for testing without files for that."""
        if not self.path.is_dir():
            return [self.path], []
        files = sorted(
            file
            for file in self.path.rglob("*")
            if file.is_file() and file.suffix.lower() in _SUFFIXES and not _is_hidden(file.relative_to(self.path))
        )
        if not files:
            raise TickdslError(f"{self.path} has no text files", f"put files like train.txt into it ({_listed()})")
        by_part = {
            names: [file for file in files if _part(file.relative_to(self.path)) in names] for names in (_TRAIN, _TEST)
        }
        if not by_part[_TEST]:
            return files, []
        if self.test_share:
            raise TickdslError(
                f"{self.path} has a text to test on already: {by_part[_TEST][0].relative_to(self.path)}",
                "leave out `test=`",
            )
        train = by_part[_TRAIN] or [file for file in files if file not in by_part[_TEST]]
        if not train:
            raise TickdslError(f"{self.path} has no text to train on", "add a file train.txt, or a folder train/")
        return train, by_part[_TEST]


def _part(file: Path) -> str:
    """The word that may say what a file is for: its first folder, or its name without the suffix."""
    return (file.parts[0] if len(file.parts) > 1 else file.stem).lower()


def _is_hidden(file: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.parts)


def _listed() -> str:
    return ", ".join(suffix for suffix in _SUFFIXES if suffix)
