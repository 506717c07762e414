"""Texts: generated corpora and sentences, text files, tables, tokenizers, and what is wrong with them."""

from __future__ import annotations

import builtins
import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.training.data import datasets
from tickdsl.training.data.datasets import Dataset
from tickdsl.training.data.readers import sentences, tokens

TEXT = "Once upon a time there was a cat.\nIt slept all day, and it hunted all night.\n" * 20


def load(name: str, **options: Any) -> Dataset:
    return datasets.load(name, options=options)


def rejoined(data: Dataset, part: str) -> bytes:
    """The text that sequences were made of."""
    inputs, targets = (getattr(data, f"{part}_{kind}").numpy() for kind in ("inputs", "targets"))
    assert (inputs.ravel()[1:] == targets.ravel()[:-1]).all()
    return bytes(np.append(inputs.ravel(), targets[-1, -1]).astype(np.uint8))


# -- generated


def test_a_corpus_is_the_same_each_time_and_grows_at_its_end() -> None:
    small, large = load("corpus", train=50, length=16), load("corpus", train=300, length=16)
    assert torch.equal(small.train_inputs, load("corpus", train=50, length=16).train_inputs)
    assert torch.equal(small.train_inputs, large.train_inputs[:50])
    assert small.train_inputs.dtype == small.train_targets.dtype == torch.uint8
    assert small.fingerprint != large.fingerprint and small.shape == (16, 256)
    seen = {row.tobytes() for row in large.train_inputs.numpy()}
    assert sum(row.tobytes() in seen for row in large.test_inputs.numpy()) < 0.02 * len(large.test_inputs)


def test_verbs_of_the_corpus_agree_with_their_nouns() -> None:
    lines = rejoined(load("corpus", train=2000), "train").decode().splitlines()[:-1]
    short = [line.rstrip(".").split() for line in lines if len(line.split()) == 3]
    assert len(short) > 30
    for _, noun, verb in short:
        assert noun.endswith("s") != verb.endswith("s"), (noun, verb)
    assert any(line.count(" that ") > 1 for line in lines), "no nested clause"
    for line in lines:
        assert line.count('"') in (0, 2) and line.count("(") == line.count(")")


def test_words_alone_do_not_tell_who_acts() -> None:
    """The best answer from a bag of words, fitted to the very sentences that it is judged on."""
    data = load("sentences", train=20_000)
    by_bag: dict[tuple[int, ...], Counter[int]] = {}
    for words, label in zip(data.train_inputs.sort(1).values.tolist(), data.train_targets.tolist(), strict=True):
        animals = tuple(word for word in words if sentences.WORDS[word] in sentences.ACTORS)
        by_bag.setdefault(animals, Counter())[label] += 1
    best = sum(counts.most_common(1)[0][1] for counts in by_bag.values()) / len(data.train_targets)
    assert best < 0.5
    assert data.task.chance(data.test_targets) == pytest.approx(0.25)


@given(st.integers(0, 100_000), st.integers(0, 3))
def test_a_sentence_names_the_one_who_acts_and_another(seed: int, actor: int) -> None:
    words = sentences.sentence(np.random.default_rng(seed), actor)
    named = [word for word in words if word in sentences.ACTORS]
    assert len(words) <= sentences.LENGTH and set(words) <= set(sentences.WORDS)
    assert sentences.ACTORS[actor] in named and len(set(named)) == len(named) >= 2
    if "by" in words:
        assert words.index(sentences.ACTORS[actor]) > words.index("by")


# -- text files


@settings(max_examples=30, deadline=None)
@given(st.binary(min_size=40, max_size=400).filter(lambda content: content.strip()), st.integers(1, 12))
def test_sequences_are_the_bytes_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, length: int
) -> None:
    file = tmp_path_factory.mktemp("texts") / "any.txt"
    file.write_bytes(content)
    data = load("text", path=str(file), length=length, test=0.2)
    train, test = rejoined(data, "train"), rejoined(data, "test")
    assert train[-1:] == test[:1] and content.startswith(train + test[1:])
    assert len(content) - len(train + test[1:]) < length


def test_a_folder_has_texts_to_train_and_to_test_on(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "b.txt").write_text("second " * 20)
    (tmp_path / "train" / "a.md").write_text("first " * 20)
    (tmp_path / "train" / "notes.png").write_bytes(b"\0" * 99)
    (tmp_path / "test.txt").write_text("tested " * 20)
    data = load("text", path=str(tmp_path), length=8)
    assert rejoined(data, "train").startswith(b"first first") and b"second" in rejoined(data, "train")
    assert rejoined(data, "test").startswith(b"tested tested")
    with pytest.raises(TickdslError, match=r"has a text to test on already: test\.txt"):
        load("text", path=str(tmp_path), length=8, test=0.1)
    moved = tmp_path.parent / "moved"
    tmp_path.rename(moved)
    assert load("text", path=str(moved), length=8).fingerprint == data.fingerprint
    (moved / "train" / "b.txt").write_text("changed " * 20)
    assert load("text", path=str(moved), length=8).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "has no text files"),
        ({"a.txt": b" \n"}, r"a.txt is empty"),
        ({"a.txt": b"short"}, "has too little text to train on"),
        ({"train.txt": TEXT.encode(), "test.txt": b"short"}, "has too little text to test on"),
        ({"test.txt": TEXT.encode()}, "has no text to train on"),
    ],
)
def test_a_folder_that_is_no_corpus_is_refused(files: dict[str, bytes], problem: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TickdslError, match=problem):
        load("text", path=str(tmp_path))


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match="`data text` needs a path"):
        load("text")
    with pytest.raises(TickdslError, match="`data table` needs a path"):
        load("table")
    with pytest.raises(TickdslError, match=r"cannot read .*gone.txt: No such file"):
        load("text", path=str(tmp_path / "gone.txt"))


# -- tokenizers


@pytest.fixture
def tokenizer_file(tmp_path: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["?"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def test_a_tokenizer_gives_the_tokens_of_the_whole_text(tokenizer_file: Path, tmp_path: Path) -> None:
    import tokenizers

    file = tmp_path / "story.txt"
    file.write_text(TEXT)
    data = load("text", path=str(file), tokenizer=str(tokenizer_file), length=16)
    plain = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    plain.no_truncation()
    plain.no_padding()
    stream = torch.cat([data.train_inputs.flatten(), data.test_inputs.flatten()]).tolist()
    assert plain.encode(TEXT).ids[: len(stream)] == stream
    assert data.vocabulary == data.classes == plain.get_vocab_size()
    assert data.class_names[stream[0]] == plain.id_to_token(stream[0])
    bytewise = load("text", path=str(file), length=16)
    assert data.fingerprint != bytewise.fingerprint and bytewise.classes == 256
    again = tmp_path / "copy.json"
    again.write_bytes(tokenizer_file.read_bytes())
    assert load("text", path=str(file), tokenizer=str(again), length=16).fingerprint == data.fingerprint


def test_a_text_that_is_not_utf8_names_its_line(tokenizer_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "latin.txt"
    file.write_bytes(b"one\ntwo\ncaf\xe9\n")
    with pytest.raises(TickdslError, match=r"latin.txt, line 3: byte 0xe9 is not UTF-8"):
        load("text", path=str(file), tokenizer=str(tokenizer_file))


def test_files_that_are_no_tokenizer_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "story.txt").write_text(TEXT)
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(TickdslError, match=r"no.json is no tokenizer"):
        load("text", path=str(tmp_path / "story.txt"), tokenizer=str(tmp_path / "no.json"))
    with pytest.raises(TickdslError, match=r"cannot read .*gone.json"):
        load("text", path=str(tmp_path / "story.txt"), tokenizer=str(tmp_path / "gone.json"))


def test_without_the_package_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_tokenizers(name: str, *args: Any, **options: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return found(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_tokenizers)
    (tmp_path / "story.txt").write_text(TEXT)
    (tmp_path / "words.json").write_text("{}")
    with pytest.raises(TickdslError, match="needs the package `tokenizers`") as caught:
        load("text", path=str(tmp_path / "story.txt"), tokenizer=str(tmp_path / "words.json"))
    assert caught.value.hint is not None and 'pip install "tickdsl[text]"' in caught.value.hint


# -- tables

ROWS = [(f"a good, or even great film number {n}", "pos") for n in range(10)]
ROWS += [(f'a bad film\nin two lines, number "{n}"', "neg") for n in range(10)]


def write_csv(file: Path, rows: list[tuple[str, str]], header: tuple[str, str] = ("text", "label")) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, delimiter="\t" if file.suffix == ".tsv" else ",").writerows([header, *rows])


def write_jsonl(file: Path, rows: list[tuple[str, str]]) -> None:
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_tables_of_all_kinds_hold_the_same_data(suffix: str, tmp_path: Path) -> None:
    for part, rows in (("train", ROWS), ("test", ROWS[5:15])):
        file = tmp_path / f"{part}{suffix}"
        (write_jsonl if suffix == ".jsonl" else write_csv)(file, rows)
    data = load("table", path=str(tmp_path), length=40)
    assert data.class_names == ("neg", "pos") and data.shape == (40, 256)
    assert data.train_targets.tolist() == [1] * 10 + [0] * 10
    for row, (text, _) in zip(data.train_inputs.numpy(), ROWS, strict=True):
        assert bytes(row).rstrip(b"\0") == text.encode()[:40]
    assert torch.equal(data.test_inputs, data.train_inputs[5:15])


def test_one_table_is_split_by_its_texts(tmp_path: Path) -> None:
    write_csv(tmp_path / "all.csv", ROWS)
    data = load("table", path=str(tmp_path / "all.csv"), test=0.2)
    assert (len(data.train_targets), len(data.test_targets)) == (16, 4)
    assert data.test_targets.bincount().tolist() == [2, 2]
    write_csv(tmp_path / "turned.csv", ROWS[::-1])
    turned = load("table", path=str(tmp_path / "turned.csv"), test=0.2)
    rows = [sorted(map(tuple, part.test_inputs.tolist())) for part in (data, turned)]
    assert rows[0] == rows[1]
    with pytest.raises(TickdslError, match="has no rows to test on") as caught:
        load("table", path=str(tmp_path / "all.csv"))
    assert "test=20%" in str(caught.value.hint)


def test_other_columns_and_numbers_as_labels(tmp_path: Path) -> None:
    write_csv(tmp_path / "stars.csv", [(f"review {n}", str(n % 11)) for n in range(40)], ("review", "stars"))
    options = {"path": str(tmp_path / "stars.csv"), "text": "review", "label": "stars", "test": 0.25}
    assert load("table", **options).class_names == tuple(map(str, range(11)))
    numbers = load("table", **options, task="regress")
    assert numbers.task.name == "regress" and numbers.train_targets.dtype == torch.float32
    assert numbers.train_targets.shape[1:] == (1,) and numbers.class_names == ("stars",)


def test_texts_that_are_too_long_are_cut_and_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "all.csv", ROWS)
    data = load("table", path=str(tmp_path / "all.csv"), test=0.2, length=20)
    assert data.notes == ("20 texts longer than length=20: the rest is left out",)


def test_padding_is_no_word_of_a_tokenizer(tokenizer_file: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "all.csv", [(text[:8] + " cat day", label) for text, label in ROWS[:9] + ROWS[10:]])
    write_csv(tmp_path / "all.csv", [(f"{'cat ' * n}", "ab"[n % 2]) for n in range(1, 9)])
    data = load("table", path=str(tmp_path / "all.csv"), test=0.25, tokenizer=str(tokenizer_file), length=64)
    words = len(tokens.find_tokenizer(str(tokenizer_file)).names)
    assert data.vocabulary == words + 1
    for row in (*data.train_inputs, *data.test_inputs):
        count = int((row != 0).sum())
        assert (row[:count] > 0).all() and not row[count:].any() and count


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "text,label\n", "a.csv has no rows"),
        ("a.csv", "review,label\nfine,pos\n", "line 2: there is no column `text`"),
        ("a.csv", "text,label\nfine,pos\n,neg\n", "line 3: the text is empty"),
        ("a.csv", "text,text,label\nfine,ok,pos\n", "line 1: two columns are called `text`"),
        ("a.csv", "text,label\nfine\n", "line 2: `label` has no value"),
        ("a.csv", "text,label\nfine, or not,pos\n", "line 2: more values than columns"),
        ("a.csv", 'text,label\n"fine,pos\n', "line 2: unexpected end of data"),
        ("a.csv", "text,label\nfine,pos\nalso,pos\n", "has one label, pos"),
        ("a.csv", "text,label\nfi\0ne,pos\nbad,neg\nx,pos\ny,neg\n", "line 2: the text has a byte 0"),
        ("a.csv", b"text,label\nfine,pos\ncaf\xe9,neg\n", "line 3: byte 0xe9 is not UTF-8"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": ', "line 2: Expecting value"),
        ("a.jsonl", "[1, 2]\n", "line 1: this is no JSON object"),
        ("a.jsonl", '{"text": "a"}\n', "line 1: there is no column `label`"),
        ("a.jsonl", '{"text": "a", "label": null}\n', "line 1: `label` has no value"),
        ("a.jsonl", '{"text": ["a"], "label": 1}\n', "line 1: `text` has no value"),
        ("a.csv", "text,label\nsame,pos\nsame,pos\nother,neg\nmore,neg\n", "each class needs two different texts"),
        ("a.docx", "text,label\n", "is no table"),
    ],
)
def test_a_table_with_a_fault_names_the_line(name: str, content: str | bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TickdslError, match=problem):
        load("table", path=str(file), test=0.5)


@pytest.mark.parametrize("option", ["text", "label"])
def test_a_missing_column_is_named_with_its_option(option: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\nfine,pos\n")
    with pytest.raises(TickdslError) as raised:
        load("table", path=str(file), test=0.5, **{option: "review"})
    assert raised.value.hint == f'the columns are text, label; name the right one with {option}="…"'


def test_labels_that_were_not_trained_on_or_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    write_csv(tmp_path / "test.csv", [("fine", "pos"), ("so so", "mixed")])
    with pytest.raises(TickdslError, match=r"test.csv, line 3: the label mixed is not in the training table"):
        load("table", path=str(tmp_path))
    with pytest.raises(TickdslError, match=r"train.csv, line 2: the label pos is no number"):
        load("table", path=str(tmp_path), task="regress")
    with pytest.raises(TickdslError, match="task=language: a table has labels"):
        load("table", path=str(tmp_path), task="language")
    (tmp_path / "test.csv").unlink()
    with pytest.raises(TickdslError, match="has no table to test on"):
        load("table", path=str(tmp_path))


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"]))
def test_no_file_causes_another_error(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    file = tmp_path_factory.mktemp("any") / f"file{suffix}"
    file.write_bytes(content)
    try:
        data = load("text" if suffix == ".txt" else "table", path=str(file), test=0.5, length=4)
    except TickdslError as error:
        assert str(file) in error.message
    else:
        assert len(data.train_inputs) and len(data.test_inputs)
