"""Networks in the graph cache are checked without torch; an unusable cache only costs time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tickdsl.engine import graph_cache
from tickdsl.graph.model import ModelGraph
from tickdsl.plan.model import Data

PLAN = "model small-cnn width=0.5\ndata synthetic size=8\ntrain 1ep\nprune filters 30% x 2; rewind lr\nseeds 2\n"
#: Checks the plan and prints whether torch was loaded.
PROGRAM = """
import sys
from collections.abc import Iterator
from tickdsl.cli import main
code = main(["check", sys.argv[1]])
print(f"torch={'torch' in sys.modules}")
sys.exit(code)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty graph cache, on disk and in this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    graph_cache.model_graph.cache_clear()
    yield graph_cache.graph_cache_dir()
    graph_cache.model_graph.cache_clear()


def small() -> ModelGraph:
    graph_cache.model_graph.cache_clear()
    return graph_cache.model_graph("small-cnn", b'{"width":0.5}', 10, (3, 8, 8))


def check(plan: Path) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM, plan], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_second_check_loads_no_torch_and_prints_the_same(cache: Path, tmp_path: Path) -> None:
    plan = tmp_path / "warm.plan"
    plan.write_text(PLAN)
    first = check(plan)
    assert "torch=True" in first
    assert check(plan) == first.replace("torch=True", "torch=False")


def test_a_cached_graph_equals_the_traced_one(cache: Path) -> None:
    traced = small()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    kept = small()
    assert kept is not traced
    assert kept.to_json() == traced.to_json()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": -1}'])
def test_a_truncated_or_foreign_file_is_replaced(cache: Path, content: str) -> None:
    traced = small().to_json()
    (path,) = cache.glob("*.json")
    path.write_text(content)
    assert small().to_json() == traced
    assert path.read_text().partition("\n")[2] == traced


def test_an_unwritable_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert small().to_json() == small().to_json()
    assert (tmp_path / "file").read_text() == "in the way"


def test_other_code_traces_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small()
    monkeypatch.setattr(graph_cache, "_code_digest", lambda: "other")
    small()
    assert len(list(cache.glob("*.json"))) == 2


@pytest.mark.parametrize(
    "data",
    [
        Data("digits"),
        Data("digits", {"channels": 3, "size": 16, "samples": 64}),
        Data("synthetic", {"classes": 4, "size": 12, "channels": 1}),
        Data("synthetic"),
    ],
)
def test_the_catalogue_knows_the_shape_of_the_data(data: Data, tmp_path: Path) -> None:
    from tickdsl.training.data.datasets import load

    read = load(data.name, root=tmp_path, options=data.options)
    assert graph_cache.image_shape_and_classes(data, tmp_path) == (read.shape, read.classes)
