"""Texts as tokens: bytes, or the words of a Hugging Face tokenizer; sequences of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.printable import printable_line

#: The number of bytes, which are the tokens of a text without a tokenizer.
BYTES = 256
#: The token that fills up short texts where each text has a label; see `padded`.
PADDING = 0


class Tokenizer(Protocol):
    """Turns texts into tokens."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tokens, by number."""

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, integers [T]."""


@attrs.frozen
class ByteTokenizer:
    """The bytes of a text in UTF-8."""

    names: tuple[str, ...] = attrs.field(factory=lambda: tuple(_byte_name(byte) for byte in range(BYTES)))

    def encode(self, text: str) -> NDArray[Any]:
        """The bytes of a text, uint8 [T]."""
        return np.frombuffer(text.encode(), dtype=np.uint8)


def _byte_name(byte: int) -> str:
    return chr(byte) if 32 < byte < 127 else f"0x{byte:02x}"


@attrs.frozen
class FileTokenizer:
    """A Hugging Face tokenizer, as its file `tokenizer.json` describes it."""

    names: tuple[str, ...]
    _tokenizer: Any = attrs.field(repr=False)

    def encode(self, text: str) -> NDArray[Any]:
        """The tokens of a text, without those that the tokenizer would add around it."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


def find_tokenizer(file: str) -> Tokenizer:
    """The tokenizer of a file, or bytes without one.

    Raises TickdslError if the file cannot be read, or the package `tokenizers` is missing.
    """
    if not file:
        return ByteTokenizer()
    path = Path(file)
    status = path.stat()  # raises an OSError that names the file
    return _read_tokenizer(path, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _read_tokenizer(path: Path, state: tuple[int, int]) -> FileTokenizer:
    try:
        import tokenizers
    except ImportError as error:
        raise TickdslError(
            f'tokenizer="{printable_line(str(path))}" needs the package `tokenizers`',
            'pip install "tickdsl[text]", or leave out `tokenizer=` for bytes',
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises Exception itself
        raise TickdslError(
            f"{path} is no tokenizer: {str(error).splitlines()[0]}",
            "give the `tokenizer.json` of a fast tokenizer of Hugging Face",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    words = {number: word for word, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    if not words:
        raise TickdslError(f"{path} has no tokens", "train the tokenizer first")
    return FileTokenizer(tuple(words.get(number, f"unused {number}") for number in range(max(words) + 1)), tokenizer)


def decode(content: bytes, name: object) -> str:
    """A file's text. Raises TickdslError with the line if it is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TickdslError(
            f"{name}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8", "convert the file to UTF-8"
        ) from error


def sequences(stream: NDArray[Any], length: int, vocabulary: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The inputs and targets [N, length] of a text [T]: blocks without a gap, and what follows their tokens.

    Tokens after the last whole block are left out. They are of the smallest type that holds the vocabulary.
    """
    from tickdsl.training.tasks.language import smallest_type  # which loads torch, as no fingerprint needs

    count = max(0, len(stream) - 1) // length
    kept = stream[: count * length + 1].astype(smallest_type(vocabulary))
    return kept[:-1].reshape(count, length), kept[1:].reshape(count, length)


def padded(texts: Sequence[NDArray[Any]], length: int, vocabulary: int) -> NDArray[Any]:
    """The texts' tokens [N, length], cut, or filled up with `PADDING`, of the smallest type for the vocabulary."""
    from tickdsl.training.tasks.language import smallest_type

    tokens = np.full((len(texts), length), PADDING, dtype=smallest_type(vocabulary))
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = text[:length]
    return tokens
