"""`tickdsl path` prints the folder of a stored network, or one message about why there is none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from written_runs import write_run

from tickdsl.records import Store

PLAN = "seeds 2\nprune filters 30% x 2; rewind lr\ncompare random-init\n"


def path(harness: Any, *flags: object) -> Any:
    return harness.call("path", "--out", harness.folder / "runs", *flags)


def test_the_folder_holds_the_network_that_was_asked_for(harness: Any) -> None:
    harness.write(PLAN)
    harness.run()
    for event in harness.events_of("metric"):
        chosen = ("--arm", event.arm, "--level", event.level, "--seed", event.seed, "--contestant", event.contestant)
        found = path(harness, *chosen)
        assert found.exit == 0, found.err
        folder = Path(found.out.strip())
        assert (folder / "weights.safetensors").is_file()
        assert Store(harness.store).get(folder.name).metrics["accuracy"] == event.accuracy
        structure = path(harness, *chosen, "--structure")
        if event.contestant == "dense":
            assert structure.exit == 2 and "leave out --structure" in structure.err
        else:
            assert (Path(structure.out.strip()) / "structure.safetensors").is_file()
            assert Store(harness.store).get(Path(structure.out.strip()).name).metrics["params"] == event.params


def test_left_open_it_says_what_it_chose(harness: Any) -> None:
    harness.write(PLAN)
    harness.run()
    harness.run()
    chosen = path(harness, "test")
    assert chosen.exit == 0 and len(chosen.out.splitlines()) == 1
    assert "2 runs start with test" in chosen.err and "median accuracy" in chosen.err
    shutil.move(harness.store, harness.folder / "moved")
    missing = path(harness)
    assert missing.exit == 2 and f"no store in {harness.store}" in missing.err
    assert path(harness, "--store", harness.folder / "moved").exit == 0
    harness.call("store", "gc", "--force", "--store", harness.folder / "moved", "--out", harness.folder / "runs")
    gone = path(harness, "--store", harness.folder / "moved")
    assert gone.exit == 2 and "not in the store" in gone.err and "run the plan again" in gone.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none",), ("no run none",)),
        (("--level", 9), ("no level 9", "level")),
        (("--arm", "what"), ("no arm `what`", "colt")),
        (("--seed", 8), ("seed 8",)),
        (("--contestant", "teacher"), ("`teacher` was not measured",)),
        (("--set", "a=1"), ("no sweep `a`",)),
        (("--level", 1, "--seed", 1, "--arm", "colt"), ("no store in .tick/store",)),
    ],
)
def test_what_is_not_there_is_one_message(harness: Any, arguments: tuple[object, ...], words: tuple[str, ...]) -> None:
    write_run(harness.folder / "runs")
    result = path(harness, *arguments)
    assert result.exit == 2 and result.out == "" and "Traceback" not in result.err
    assert all(word in result.err for word in words), result.err
    assert result.err.count("tickdsl:") == 1


def test_a_run_without_levels_is_one_message(harness: Any) -> None:
    write_run(harness.folder / "runs", until=2, end=None)
    result = path(harness)
    assert result.exit == 2 and "has no levels" in result.err
