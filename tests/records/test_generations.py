"""Fresh runs make results anew without taking any away from others, and continue where they were stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tickdsl.records import Process, Store, digest, replacements
from tickdsl.records.generations import Generation, join_generation

KEYS = [digest(["train", number]) for number in range(3)]
KEY = KEYS[0]


def put(store: Store, content: str, key: str = KEY) -> None:
    with store.writing(key) as draft:
        (draft.folder / "weights").write_text(content)
        draft.finish({"operation": "train", "parts": {}, "metrics": {}, "seconds": 1.0})


def weights(store: Store, key: str = KEY) -> str:
    return (store.get(key).folder / "weights").read_text()


def fresh(root: Path, start_over: bool = False) -> tuple[Store, Generation]:
    generation = join_generation(root, KEYS, start_over)
    return Store(root, generation=generation), generation


@pytest.fixture(params=["at once", "in two renames"])
def exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which folders are exchanged."""
    if request.param != "at once":
        monkeypatch.setattr(replacements, "_exchange", lambda source, target: False)


@pytest.mark.usefixtures("exchange")
def test_a_result_stays_until_its_replacement_is_complete(tmp_path: Path) -> None:
    usual = Store(tmp_path)
    put(usual, "old")
    store, _ = fresh(tmp_path)
    assert KEY not in store
    with store.writing(KEY) as draft:
        (draft.folder / "weights").write_text("new")
        assert KEY in usual and weights(usual) == "old"
        draft.finish({})
    assert KEY in store and weights(store) == weights(usual) == "new"
    assert usual.check(KEY)
    assert not list((tmp_path / "drafts").iterdir()) and not list(tmp_path.glob("replaced/*"))


def test_a_replacement_that_fails_leaves_the_old_result(tmp_path: Path) -> None:
    put(Store(tmp_path), "old")
    store, _ = fresh(tmp_path)
    with pytest.raises(ZeroDivisionError), store.writing(KEY):
        raise ZeroDivisionError
    assert weights(Store(tmp_path)) == "old"
    assert KEY not in store


@pytest.mark.usefixtures("exchange")
def test_readers_find_a_result_at_every_moment(tmp_path: Path) -> None:
    put(Store(tmp_path), "0" * 4000)
    problems: list[str] = []
    ended = threading.Event()
    reader = Store(tmp_path, warn=problems.append)

    def read() -> None:
        while not ended.is_set():
            if not reader.check(KEY):
                problems.append("missing")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(15):
            store, generation = fresh(tmp_path, start_over=True)
            put(store, f"{number}" * 4000)
            generation.leave()
    finally:
        ended.set()
        thread.join()
    assert not problems


def test_an_interrupted_exchange_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two renames, a process may die after the first one, or after the second."""
    monkeypatch.setattr(replacements, "_exchange", lambda source, target: False)
    put(Store(tmp_path), "old")
    place = Store(tmp_path).get(KEY).folder
    (tmp_path / "replaced").mkdir()
    place.rename(tmp_path / "replaced" / KEY)
    assert weights(Store(tmp_path)) == "old"
    assert not (tmp_path / "replaced" / KEY).exists()

    (tmp_path / "replaced" / KEY).mkdir()
    store, _ = fresh(tmp_path)
    put(store, "new")
    assert weights(store) == "new"
    assert not list((tmp_path / "replaced").iterdir())


def test_an_unfinished_fresh_run_is_continued_and_a_finished_one_starts_over(tmp_path: Path) -> None:
    put(Store(tmp_path), "old")
    store, generation = fresh(tmp_path)
    put(store, "first")
    generation.leave()  # stopped, or killed before it could
    store, generation = fresh(tmp_path)
    assert KEY in store and KEYS[1] not in store
    generation.finish()
    generation.leave()
    assert not list((tmp_path / "fresh").iterdir()), "nothing is kept of a generation that is done"
    store, _ = fresh(tmp_path)
    assert KEY not in store and weights(store) == "first"


def test_a_fresh_run_can_start_over(tmp_path: Path) -> None:
    store, generation = fresh(tmp_path)
    put(store, "first")
    generation.leave()
    store, _ = fresh(tmp_path, start_over=True)
    assert KEY not in store
    assert len(list((tmp_path / "fresh").iterdir())) == 1


def test_studies_have_generations_of_their_own(tmp_path: Path) -> None:
    one, other = join_generation(tmp_path, KEYS), join_generation(tmp_path, KEYS[:2])
    assert one != other
    assert join_generation(tmp_path, reversed(KEYS)) == one


def test_a_generation_is_kept_while_a_run_takes_part(tmp_path: Path) -> None:
    store, generation = fresh(tmp_path)
    put(store, "first")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Process.current()
    other = generation.folder / "runs" / Process(here.host, here.boot, child.pid).token
    other.mkdir()
    generation.finish()
    generation.leave()
    assert KEY in store, "the other run still needs to know what was made"
    child.communicate(b"\n")
    fresh(tmp_path)
    assert not generation.folder.exists()


def test_only_checkpoints_of_the_generation_are_continued(tmp_path: Path) -> None:
    (Store(tmp_path).scratch(KEY) / "checkpoint").write_text("of a run that is alive")
    store, _ = fresh(tmp_path)
    assert not list(store.scratch(KEY).iterdir())
    (store.scratch(KEY) / "checkpoint").write_text("fresh")
    again, _ = fresh(tmp_path)
    assert (again.scratch(KEY) / "checkpoint").read_text() == "fresh"
    put(store, "new")
    assert not list(again.scratch(KEY).iterdir())


def test_opening_a_fresh_store_keeps_checkpoints_of_steps_that_others_have_stored(tmp_path: Path) -> None:
    put(Store(tmp_path), "old")
    store, _ = fresh(tmp_path)
    (store.scratch(KEY) / "checkpoint").write_text("fresh")
    again, _ = fresh(tmp_path)
    assert (again.scratch(KEY) / "checkpoint").exists()


def test_fresh_and_usual_runs_do_not_wait_for_each_other(tmp_path: Path) -> None:
    usual = Store(tmp_path)
    store, generation = fresh(tmp_path)
    here = Process.current()
    parent = Process(here.host, here.boot, os.getppid()).token
    (tmp_path / "claims" / KEY / parent).mkdir(parents=True)
    (generation.folder / "claims" / KEYS[1] / parent).mkdir(parents=True)
    assert usual.claims.acquire(KEY) and store.claims.acquire(KEY) is None
    assert store.claims.acquire(KEYS[1]) and usual.claims.acquire(KEYS[1]) is None
