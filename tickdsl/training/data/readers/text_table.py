"""Texts with a label or a number each, in tables: CSV, TSV or JSON Lines."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tickdsl.errors import TickdslError
from tickdsl.plurals import plural
from tickdsl.printable import printable_line
from tickdsl.training.data.file_digests import files_digest
from tickdsl.training.data.held_out import choose
from tickdsl.training.data.readers import tokens
from tickdsl.training.data.readers.raw_dataset import RawDataset

_SUFFIXES = (".csv", ".tsv", ".jsonl")
_TRAIN, _TEST = ("train", "training"), ("test", "val", "valid", "validation")
_MAX_FIELD = 1 << 26


@attrs.frozen
class _Row:
    place: str
    text: str
    label: str


@attrs.frozen
class TextTable:
    """A table, or a folder with a table to train on and one to test on, as texts of at most `length` tokens.

    text, label: the names of the columns. task: `classify`, or `regress` for labels that are numbers. tokenizer: the
    path of a `tokenizer.json`, or "" for bytes. test_share: the share to test on if there is one table.
    """

    path: Path
    text: str
    label: str
    task: str
    length: int
    tokenizer: str
    test_share: float

    def digest(self) -> str:
        """The hex SHA-256 of the tables' contents and of the tokenizer's."""
        files = [*self._files(), *([Path(self.tokenizer)] if self.tokenizer else [])]
        return "/".join(files_digest([file]) for file in files)

    def read(self) -> RawDataset:
        """The data set, in the order of the tables.

        Raises TickdslError with the file and the line if a table is damaged, lacks a column, or has an empty text, or a
        label that does not fit.
        """
        if self.task not in ("classify", "regress"):
            raise TickdslError(f"task={printable_line(self.task)}: a table has labels", "use classify or regress")
        files = self._files()
        rows = [list(_read_rows(file, self.text, self.label)) for file in files]
        for file, found in zip(files, rows, strict=True):
            if not found:
                raise TickdslError(f"{file} has no rows", "remove it, or add rows")
        train, test = rows if len(rows) == 2 else self._split(files[0], rows[0])
        names: tuple[str, ...] = ()
        targets: list[NDArray[Any]]
        if self.task == "classify":
            names = _class_names(files[0], train)
            targets = [_labels(part, names) for part in (train, test)]
        else:
            targets = [np.array([_number(row) for row in part], dtype=np.float32)[:, None] for part in (train, test)]
        tokenizer = tokens.find_tokenizer(self.tokenizer)
        # Token 0 is padding: the tokens of a tokenizer are counted from 1, and texts have no byte 0.
        first = 1 if self.tokenizer else 0
        vocabulary = len(tokenizer.names) + first
        texts = [[self._encoded(row, tokenizer) + first for row in part] for part in (train, test)]
        cut = sum(len(text) > self.length for part in texts for text in part)
        note = f"{plural(cut, 'text')} longer than length={self.length}: the rest is left out"
        (train_inputs, test_inputs) = (tokens.padded(part, self.length, vocabulary) for part in texts)
        return RawDataset(
            train_inputs, targets[0], test_inputs, targets[1], names or (self.label,),
            notes=(note,) if cut else (), task=self.task, vocabulary=vocabulary,
        )  # fmt: skip

    def _encoded(self, row: _Row, tokenizer: tokens.Tokenizer) -> NDArray[Any]:
        if not self.tokenizer and "\0" in row.text:
            raise TickdslError(f"{row.place}: the text has a byte 0, which is padding", "remove it")
        encoded = tokenizer.encode(row.text)
        if not len(encoded):
            raise TickdslError(f"{row.place}: the text is empty", "remove the row, or put text into it")
        return encoded

    def _split(self, file: Path, rows: Sequence[_Row]) -> tuple[list[_Row], list[_Row]]:
        if not self.test_share:
            raise TickdslError(
                f"{self.path} has no rows to test on",
                "add test=20% to `data`, or use a folder with train.csv and test.csv",
            )
        digests = [hashlib.sha256(row.text.encode("utf-8", "surrogatepass")).digest() for row in rows]
        labels = [row.label if self.task == "classify" else "" for row in rows]
        try:
            tested = choose(labels, digests, self.test_share)
        except TickdslError as error:
            kind = "each class" if self.task == "classify" else "the table"
            raise TickdslError(
                f"{file}: {kind} needs two different texts, one for training and one for testing", "add rows"
            ) from error
        parts: tuple[list[_Row], list[_Row]] = [], []
        for row, is_tested in zip(rows, tested, strict=True):
            parts[is_tested].append(row)
        return parts

    def _files(self) -> list[Path]:
        """The table, or those to train and to test on."""
        if not self.path.is_dir():
            if self.path.suffix.lower() not in _SUFFIXES:
                raise TickdslError(f"{self.path} is no table", f"use a file that ends in {', '.join(_SUFFIXES)}")
            return [self.path]
        tables = sorted(file for file in self.path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
        found = [next((file for file in tables if file.stem.lower() in names), None) for names in (_TRAIN, _TEST)]
        missing = [part for part, file in zip(("train", "test"), found, strict=True) if file is None]
        if missing:
            raise TickdslError(
                f"{self.path} has no table to {missing[0]} on",
                f"it must contain {missing[0]}.csv, or .tsv or .jsonl; or give the path of one table and test=20%",
            )
        if self.test_share:
            raise TickdslError(f"{self.path} has a table to test on already: {found[1]}", "leave out `test=`")
        return [file for file in found if file is not None]


def _read_rows(file: Path, text: str, label: str) -> Iterator[_Row]:
    content = tokens.decode(file.read_bytes(), file)
    if not content.strip():
        raise TickdslError(f"{file} is empty", "add rows")
    read: Callable[[Path, str], Iterator[tuple[int, Mapping[str, Any]]]] = (
        _json_rows if file.suffix.lower() == ".jsonl" else _csv_rows
    )
    for line, row in read(file, content):
        place = f"{file}, line {line}"
        values = [_value(row, option, column, place) for option, column in (("text", text), ("label", label))]
        if not values[0].strip():
            raise TickdslError(f"{place}: the text is empty", "remove the row, or put text into it")
        yield _Row(place, *values)


def _value(row: Mapping[str, Any], option: str, column: str, place: str) -> str:
    """The value of a column, which an option of `data` names."""
    if column not in row:
        columns = ", ".join(printable_line(str(name)) for name in row if name is not None)
        raise TickdslError(
            f"{place}: there is no column `{printable_line(column)}`",
            f'the columns are {columns or "not named"}; name the right one with {option}="…"',
        )
    value = row[column]
    if value is None or isinstance(value, dict | list):
        raise TickdslError(f"{place}: `{printable_line(column)}` has no value", "remove the row, or complete it")
    return str(value)


def _csv_rows(file: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table with commas, or tabs in a .tsv, with the line on which each begins."""
    before = csv.field_size_limit(_MAX_FIELD)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        columns = list(reader.fieldnames or ())
        twice = next((name for name in columns if columns.count(name) > 1), None)
        if twice is not None:
            raise TickdslError(f"{file}, line 1: two columns are called `{printable_line(twice)}`", "rename one")
        line = reader.line_num + 1
        for row in reader:
            if None in row:
                raise TickdslError(
                    f"{file}, line {line}: more values than columns", 'quote texts that have commas: "…"'
                )
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise TickdslError(f"{file}, line {line}: {error}", "check its quotation marks") from error
    finally:
        csv.field_size_limit(before)


def _json_rows(file: Path, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TickdslError(f"{file}, line {number}: {error}", "write one JSON object per line") from error
        except RecursionError as error:
            raise TickdslError(
                f"{file}, line {number}: it nests too deeply", "write one JSON object per line"
            ) from error
        if not isinstance(row, dict):
            raise TickdslError(f"{file}, line {number}: this is no JSON object", 'write {"text": "…", "label": "…"}')
        yield number, row


def _class_names(file: Path, train: Sequence[_Row]) -> tuple[str, ...]:
    """The labels of the training texts: in the order of numbers if all are, otherwise sorted."""
    labels = {row.label for row in train}
    if len(labels) < 2:
        raise TickdslError(
            f"{file} has one label, {printable_line(min(labels))}: there is nothing to tell apart", "add another class"
        )
    try:
        return tuple(sorted(labels, key=int))
    except ValueError:
        return tuple(sorted(labels))


def _labels(rows: Sequence[_Row], names: Sequence[str]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(names)}
    for row in rows:
        if row.label not in numbers:
            raise TickdslError(
                f"{row.place}: the label {printable_line(row.label)} is not in the training table",
                "add training rows with this label, or remove the row",
            )
    return np.array([numbers[row.label] for row in rows], dtype=np.int64)


def _number(row: _Row) -> float:
    try:
        number = float(row.label)
    except ValueError:
        number = float("nan")
    if not np.isfinite(np.float32(number)):
        raise TickdslError(
            f"{row.place}: the label {printable_line(row.label)} is no number", "use task=classify, or mend the row"
        )
    return number
