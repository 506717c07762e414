"""What `gc` removes from a store, by its rule, whatever the store holds and whoever uses it."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tickdsl.errors import TickdslError
from tickdsl.records import EventWriter, Process, RunPaths, Store
from tickdsl.records.events import Heartbeat, RunEnd
from tickdsl.records.generations import join_generation
from tickdsl.records.process import host_name
from tickdsl.records.run_register import RunRegister
from tickdsl.records.store_cleaning import CleaningRule, plan_removal, remove
from tickdsl.records.store_contents import FOLDERS, require_store, stored_results
from tickdsl.records.store_users import StoreUser, store_users

KEYS = [f"{letter}{letter}key" for letter in "abcdefgh"]
DAY = 86_400.0


def put(root: Path, key: str, age: float = 0.0) -> None:
    """Store a result that was made `age` seconds ago."""
    store = Store(root)
    with store.writing(key) as draft:
        (draft.folder / "weights").write_bytes(key.encode())
        draft.finish({"operation": "train", "metrics": {}})
    moment = time.time() - age
    os.utime(store.get(key).folder / "result.json", (moment, moment))


def run_folder(out: Path, name: str, keys: list[str], ended: bool = True) -> RunPaths:
    """A run folder of an earlier version, which did not register runs."""
    paths = RunPaths(out / f"{name}-20260102-030405-00ff")
    paths.folder.mkdir(parents=True)
    paths.plan_json.write_text(json.dumps({"v": 1, "plan": {}, "steps": [{"key": key} for key in keys]}))
    me = Process.current()
    with EventWriter(paths.events) as writer:
        writer.write(Heartbeat(pid=me.pid, host=me.host, boot=me.boot))
        if ended:
            writer.write(RunEnd(status="ok", seconds=1.0, exit=0))
    return paths


def stored(root: Path) -> set[str]:
    return {found.key for found in stored_results(root)}


def dead_process() -> Process:
    child = subprocess.Popen(["true"])
    child.wait()
    return attrs.evolve(Process.current(), pid=child.pid)


users_strategy = st.lists(
    st.tuples(st.sets(st.sampled_from(KEYS)), st.booleans(), st.integers(0, 5), st.booleans()), max_size=4
)


@settings(max_examples=40, deadline=None)
@given(
    made=st.dictionaries(st.sampled_from(KEYS), st.integers(0, 5)),
    users=users_strategy,
    older=st.none() | st.integers(1, 5),
    force=st.booleans(),
)
def test_what_goes_is_what_the_rule_says(
    tmp_path_factory: pytest.TempPathFactory,
    made: dict[str, int],
    users: list[tuple[set[str], bool, int, bool]],
    older: int | None,
    force: bool,
) -> None:
    root = tmp_path_factory.mktemp("store")
    for key, days in made.items():
        put(root, key, days * DAY + 60)
    now = time.time()
    found = [
        StoreUser(Path(f"/runs/{index}"), frozenset(keys), running, now - days * DAY - 60)
        for index, (keys, running, days, _) in enumerate(users)
    ]
    keep = frozenset(user.folder for user, (*_, kept) in zip(found, users, strict=True) if kept)
    rule = CleaningRule(None if older is None else older * DAY, force, keep)
    expected = set()
    for key, days in made.items():
        old = older is None or days >= older
        needed = any(
            key in keys and (not force or running or kept or (older is not None and used < older))
            for keys, running, used, kept in users
        )
        if old and not needed:
            expected.add(key)
    assert {result.key for result in plan_removal(root, found, rule).results} == expected
    removal = remove(root, lambda: found, rule)
    assert {result.key for result in removal.results} == expected
    assert stored(root) == made.keys() - expected == {result.key for result in removal.kept}
    assert not list((root / "drafts").iterdir())
    assert all(Store(root).check(key) for key in stored(root))


def test_runs_are_known_by_the_register_and_by_their_folders(tmp_path: Path) -> None:
    root, out = tmp_path / "store", tmp_path / "runs"
    old = run_folder(out, "old", ["k1"])
    new = run_folder(tmp_path / "elsewhere", "new", ["not", "read"])
    register = RunRegister(root)
    with register.taking_part(new.folder, ["k2"], pytest.fail):
        users = {user.name: user for user in store_users(root, out)}
        assert users[new.folder.name].engine == Process.current()
        assert not users[new.folder.name].running, "its events say that it has ended"
        new.events.unlink()
        assert {u.name: u.running for u in store_users(root, out)} == {old.folder.name: False, new.folder.name: True}
    users = {user.name: user for user in store_users(root, out)}
    assert {name: (user.keys, user.running) for name, user in users.items()} == {
        old.folder.name: (frozenset({"k1"}), False),
        new.folder.name: (frozenset({"k2"}), False),
    }


def test_a_run_whose_folder_was_deleted_needs_nothing(tmp_path: Path) -> None:
    put(tmp_path / "store", "aakey")
    paths = run_folder(tmp_path / "runs", "gone", [])
    register = RunRegister(tmp_path / "store")
    with register.taking_part(paths.folder, ["aakey"], pytest.fail):
        pass
    for path in paths.folder.iterdir():
        path.unlink()
    paths.folder.rmdir()
    removal = remove(tmp_path / "store", lambda: store_users(tmp_path / "store", tmp_path / "runs"), CleaningRule())
    assert [run.folder for run in removal.forgotten] == [paths.folder.resolve()]
    assert stored(tmp_path / "store") == set() and register.runs() == []


def test_a_run_on_a_disk_that_is_not_mounted_keeps_its_results(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root, "aakey")
    with RunRegister(root).taking_part(tmp_path / "disk" / "project" / "runs" / "colt", ["aakey"], pytest.fail):
        pass
    removal = remove(root, lambda: store_users(root, tmp_path / "runs"), CleaningRule())
    assert not removal.items and not removal.forgotten and stored(root) == {"aakey"}


def test_a_run_of_another_host_keeps_its_results(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root, "aakey")
    with RunRegister(root).taking_part(tmp_path / "unseen", ["aakey"], pytest.fail):
        pass
    (entry,) = (root / "runs").iterdir()
    entry.write_text(entry.read_text().replace(f'"{host_name()}"', '"elsewhere"'))
    removal = remove(root, lambda: store_users(root, tmp_path / "runs"), CleaningRule())
    assert not removal.items and not removal.forgotten and stored(root) == {"aakey"}


def test_a_killed_run_is_not_running(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root, "aakey")
    paths = run_folder(tmp_path / "runs", "killed", [], ended=False)
    with RunRegister(root).taking_part(paths.folder, ["aakey"], pytest.fail):
        (entry,) = (root / "runs").iterdir()
        text = entry.read_text()
    entry.write_text(text.replace(Process.current().token, dead_process().token))
    (user,) = store_users(root, tmp_path / "runs")
    assert user.keys == {"aakey"} and not user.running


def test_checkpoints_and_damaged_results_go_too(tmp_path: Path) -> None:
    root = tmp_path / "store"
    store = Store(root)
    store.prepare_writing()
    for key in ("aakey", "bbkey", "cckey"):
        (store.scratch(key) / "checkpoint").write_bytes(b"0" * 10)
    (root / "unfinished" / "aakey" / Process.current().token).rename(
        root / "unfinished" / "aakey" / dead_process().token
    )
    (root / "unfinished" / "cckey" / Process.current().token).rename(
        root / "unfinished" / "cckey" / dead_process().token
    )
    (root / "damaged" / "ddkey-00ff00ff").mkdir(parents=True)
    (root / "damaged" / "ddkey-00ff00ff" / "weights").write_bytes(b"0" * 10)
    user = StoreUser(tmp_path / "run", frozenset({"cckey"}), False, 0.0)
    removal = remove(root, lambda: [user], CleaningRule())
    assert [found.key for found in removal.items] == ["aakey", "ddkey"]
    assert removal.size == 20
    assert sorted(path.name for path in (root / "unfinished").iterdir()) == ["bbkey", "cckey"]


def test_an_unfinished_fresh_run_stays_as_long_as_a_run_folder_can_be_continued(tmp_path: Path) -> None:
    root = tmp_path / "store"
    generation = join_generation(root, ["aakey", "bbkey"])
    generation.mark_made("aakey")
    user = StoreUser(tmp_path / "run", frozenset({"aakey", "bbkey"}), False, 0.0)
    assert not plan_removal(root, [], CleaningRule()).generations, "this process takes part in it"
    generation.leave()
    assert not plan_removal(root, [user], CleaningRule()).generations
    remove(root, list, CleaningRule())
    assert not generation.folder.exists()


def test_a_run_that_is_not_known_is_not_robbed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root, "aakey")
    store = Store(root)
    assert store.claims.acquire("bbkey") is None
    with pytest.raises(TickdslError, match=f"process {os.getpid()}.*") as caught:
        remove(root, list, CleaningRule(force=True))
    assert "--out" in (caught.value.hint or "") and stored(root) == {"aakey"}
    store.claims.release("bbkey")
    remove(root, list, CleaningRule(force=True))
    assert stored(root) == set()


def test_results_of_a_newer_version_are_not_removed(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put(root, "aakey")
    put(root, "bbkey")
    record = root / "results" / "bb" / "bbkey" / "result.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "v": 2}))
    with pytest.raises(TickdslError, match="another version"):
        remove(root, list, CleaningRule(force=True))
    assert stored(root) == {"aakey", "bbkey"}


def test_a_run_that_starts_waits_for_a_removal(tmp_path: Path) -> None:
    register, told, order = RunRegister(tmp_path / "store"), [], []

    def start() -> None:
        with register.taking_part(tmp_path / "run", ["aakey"], told.append):
            order.append("run")

    with register.cleaning():
        thread = threading.Thread(target=start)
        thread.start()
        while not register.runs():
            time.sleep(0.01)
        assert register.runs()[0].keys == {"aakey"}, "whoever removes results knows it from now on"
        while not told:
            time.sleep(0.01)
        order.append("removed")
    thread.join(timeout=10)
    assert order == ["removed", "run"]
    assert "waiting for `tickdsl store gc`" in told[0]


def test_a_removal_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "store" / "cleaning" / dead_process().token).mkdir(parents=True)
    with RunRegister(tmp_path / "store").taking_part(tmp_path / "run", ["aakey"], pytest.fail):
        assert not list((tmp_path / "store" / "cleaning").iterdir())


@pytest.mark.parametrize("text", ["", "{}", '{"v": 1, "folder": 3}', "[1, 2]", '{"v": 1, "folder": "/x", "host": "h"}'])
def test_a_damaged_entry_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "a~0.json").write_text(text)
    with pytest.raises(TickdslError, match=r"a~0\.json is damaged"):
        RunRegister(tmp_path).runs()


def test_a_store_that_is_none(tmp_path: Path) -> None:
    require_store(tmp_path)  # empty
    (tmp_path / "file").touch()
    with pytest.raises(TickdslError, match="is not a store"):
        require_store(tmp_path)
    with pytest.raises(TickdslError, match="no store in"):
        require_store(tmp_path / "gone")
    with pytest.raises(TickdslError, match="file is in the way"):
        require_store(tmp_path / "file")


def test_the_layout_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "store.md").read_text()
    for name in FOLDERS:
        assert f"`{name}/" in page, name


def test_evaluations_of_searches_stay_with_their_networks(tmp_path: Path) -> None:
    """No run lists them; they go with the weights that they evaluate."""
    root = tmp_path / "store"
    put(root, "network")
    put(root, "forgotten")
    for key, weights in (("kept-evaluation", "network"), ("gone-evaluation", "forgotten")):
        with Store(root).writing(key) as draft:
            draft.finish({"operation": "candidate", "parts": {"parents": {"weights": weights}}, "metrics": {}})
    users = [StoreUser(Path("/runs/a"), frozenset({"network"}), False, time.time())]
    removal = plan_removal(root, users, CleaningRule())
    assert {result.key for result in removal.results} == {"forgotten", "gone-evaluation"}
    assert {result.key for result in removal.kept} == {"network", "kept-evaluation"}
