"""Run folders, the latest run, and requests to the engine."""

import datetime
from pathlib import Path

import pytest

from tickdsl.errors import TickdslError
from tickdsl.records import ControlReader, EventWriter, find_run, list_runs, new_run, send_request
from tickdsl.records.events import Log

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)


def test_a_run_has_its_name_and_is_the_latest(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    first = new_run(out, "colt", NOW, "00ff")
    assert first.folder == out / "colt-20260102-030405-00ff"
    assert find_run(out).folder == first.folder.resolve()
    second = new_run(out, "card", NOW + datetime.timedelta(seconds=1))
    assert find_run(out).folder == second.folder.resolve()
    assert (out / "latest").readlink() == Path(second.folder.name)
    assert list_runs(out) == [first, second]


def test_the_latest_run_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for token in ("0000", "0001"):
        made = new_run(tmp_path, "colt", NOW, token)
        assert (tmp_path / "latest").read_text().strip() == made.folder.name
        assert find_run(tmp_path).folder == made.folder.resolve()


def test_runs_are_found_by_path_name_and_start(tmp_path: Path) -> None:
    made = new_run(tmp_path, "colt", NOW, "00ff")
    made.events.touch()
    other = new_run(tmp_path, "card", NOW, "00ee")
    for name in (str(made.folder), made.folder.name, "colt", str(made.events)):
        assert find_run(tmp_path, name).folder == made.folder
    with pytest.raises(TickdslError, match="several"):
        find_run(tmp_path, "c")
    with pytest.raises(TickdslError, match="no run nothing"):
        find_run(tmp_path, "nothing")
    assert find_run(tmp_path, "car").folder == other.folder


def test_runs_that_start_in_one_second_get_their_own_folders(tmp_path: Path) -> None:
    folders = {new_run(tmp_path, "colt", NOW).folder for _ in range(400)}
    assert len(folders) == 400


def test_no_run_yet_and_a_file_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(TickdslError, match="no run"):
        find_run(tmp_path / "runs")
    (tmp_path / "runs").write_text("")
    with pytest.raises(TickdslError, match="runs"):
        new_run(tmp_path / "runs", "colt")


@pytest.mark.parametrize("name", ["a/b", "..", "naïve plan", ""])
def test_a_plan_name_never_leaves_the_folder(tmp_path: Path, name: str) -> None:
    assert new_run(tmp_path, name).folder.parent == tmp_path


def test_requests_arrive_once_and_old_ones_never(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    send_request(path, "stop")
    reader = ControlReader(path)
    assert reader.poll() == []
    made = [send_request(path, "pause"), send_request(path, "resume")]
    with path.open("a") as file:
        file.write('nonsense\n{"id": "1", "command": "explode", "t": 1}\n{"id": "2", "comma')
    assert reader.poll() == made
    after = send_request(path, "stop")
    assert reader.poll() == [after]
    assert [found.command for found in ControlReader(path, skip_old=False).poll()] == [
        "stop",
        "pause",
        "resume",
        "stop",
    ]


def test_runs_are_sorted_by_their_start_and_not_by_the_time_in_their_name(tmp_path: Path) -> None:
    """When summer time ends, an hour is there twice."""
    early, late, not_started = (
        new_run(tmp_path, "a", datetime.datetime(2026, 10, 25, 2, minute), token=f"000{minute % 10}")
        for minute in (45, 15, 50)
    )
    for paths, t in ((early, 1_792_890_000.0), (late, 1_792_891_800.0)):
        with EventWriter(paths.events, clock=lambda t=t: t) as writer:  # type: ignore[misc]
            writer.write(Log(message='"t": 5'))
    in_order = list_runs(tmp_path)
    assert in_order.index(early) < in_order.index(late)
    not_started.events.write_text("no event\n")
    assert len(list_runs(tmp_path)) == 3
