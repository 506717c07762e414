"""Arguments of a wrong type are refused where they are given, by name, before anything is read or run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from written_runs import write_run

import tickdsl
from tickdsl.argument_types import require_path, require_whole

PLAN = "model lenet-300-100 on digits\ntrain 1ep\nprune weights global 50% x 1; rewind lr\n"
NO_PATHS: tuple[object, ...] = (None, 3, b"x", [], "", "a\0b", "\0" * 200)


@pytest.mark.parametrize("value", NO_PATHS)
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("path", tickdsl.load),
        ("path", tickdsl.open_ticket),
        ("run", tickdsl.open_run),
        ("store", lambda value: tickdsl.run(PLAN, store=value)),
        ("out", lambda value: tickdsl.run(PLAN, out=value)),
    ],
)
def test_what_is_no_path_is_named(
    name: str, call: Callable[[object], object], value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tickdsl.TickdslError, match=f"`{name}` cannot be ") as caught:
        call(value)
    assert caught.value.hint and len(caught.value.message) < 120
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [tickdsl.run, tickdsl.check, tickdsl.parse, tickdsl.format])
@pytest.mark.parametrize("value", [None, 3, b"x"])
def test_what_is_no_plan_is_named(call: Callable[[object], object], value: object) -> None:
    with pytest.raises(tickdsl.TickdslError, match="`plan` cannot be"):
        call(value)


@pytest.mark.parametrize("name", ["jobs", "seeds", "stack"])
@pytest.mark.parametrize("value", ["2", 1.5, True, 0, -1])
def test_numbers_of_a_run_are_whole(name: str, value: object) -> None:
    with pytest.raises(tickdsl.TickdslError, match=f"`{name}` cannot be"):
        tickdsl.run(PLAN, **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["level", "seed"])
@pytest.mark.parametrize("value", ["1", 1.5, True])
def test_the_network_to_export_is_named_by_whole_numbers(name: str, value: object, tmp_path: Path) -> None:
    results = tickdsl.open_run(write_run(tmp_path).folder)
    with pytest.raises(tickdsl.TickdslError, match=f"`{name}` cannot be"):
        results.export(tmp_path / "x.safetensors", **{name: value})  # type: ignore[arg-type]


def test_paths_and_whole_numbers_of_any_kind_are_taken() -> None:
    assert require_path("a", "path") == require_path(Path("a"), "path") == Path("a")
    assert require_whole(np.int64(3), "seed") == require_whole(3, "seed", 3) == 3
