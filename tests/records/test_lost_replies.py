"""A rename whose answer a network disk loses has happened all the same, and one that has not happened is an error."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from network_disk import NetworkDisk

from tickdsl.patient_reads import move
from tickdsl.records import Store
from tickdsl.records.claims import Claims
from tickdsl.records.files import write_atomically
from tickdsl.records.folders import try_rename
from tickdsl.records.generations import join_generation
from tickdsl.records.process import Process


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[NetworkDisk]:
    """A disk that loses the answer to every rename, and nothing else."""
    disk = NetworkDisk(tmp_path, random.Random(0), lambda: 1, lambda: 0.0, share=0.0, lost=1.0)
    with disk.mounted():
        yield disk


def test_what_is_moved_is_there(disk: NetworkDisk) -> None:
    old, new, folder = disk.root / "old", disk.root / "new", disk.root / "folder"
    old.write_text("1")
    new.write_text("2")
    move(old, new)
    folder.mkdir()
    move(folder, disk.root / "moved")
    assert new.read_text() == "1" and not old.exists()
    assert (disk.root / "moved").is_dir() and not folder.exists()
    assert disk.counts == {"lost reply": 2}


def test_what_is_not_there_is_not_moved(disk: NetworkDisk) -> None:
    other = disk.root / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError):
        move(disk.root / "none", other)
    assert not try_rename(disk.root / "none", other)
    (other / "file").write_text("")
    mine = disk.root / "mine"
    mine.mkdir()
    assert not try_rename(mine, other) and mine.exists(), "another process was first"


def test_files_are_written(disk: NetworkDisk) -> None:
    write_atomically(disk.root / "file", b"text")
    assert (disk.root / "file").read_text() == "text"


@pytest.mark.parametrize("generation", [False, True], ids=["shared", "fresh"])
def test_results_are_stored(disk: NetworkDisk, generation: bool) -> None:
    root = disk.root / "store"
    store = Store(root)
    store.prepare_writing()
    for made in range(2):
        if generation and made:
            store = Store(root, generation=join_generation(root, ["abcd"]))
        with store.writing("abcd") as draft:
            draft.finish({"metrics": {"accuracy": float(made)}})
    assert store.metrics("abcd") == {"accuracy": float(generation)}


def test_a_claim_that_was_taken_for_that_of_a_dead_process_is_given_back(disk: NetworkDisk) -> None:
    """A machine remembers the holder of a claim, who has died; another machine has claimed the step since then."""
    claims, claim = Claims(disk.root / "claims", disk.root / "drafts"), disk.root / "claims" / "key"
    dead, other = (attrs.evolve(Process.current(), host=host, pid=2**30).token for host in ("here", "there"))
    (claim / dead).mkdir(parents=True)
    assert [path.name for path in claim.iterdir()] == [dead]
    disk.machine = lambda: 2
    (claim / dead).rmdir()
    (claim / other).mkdir()
    disk.machine = lambda: 1
    assert claims.acquire("key") is not None
    assert [path.name for path in claim.iterdir()] == [other]
    assert disk.counts["lost reply"] == 2, "there and back"
