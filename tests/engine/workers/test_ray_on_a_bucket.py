"""A run on a Ray cluster whose nodes share a bucket and nothing else: each has a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_server import environment, new_bucket, s3_server
from live_runs import weight_bytes
from ray_clusters import Nodes, plan, run

from tickdsl.engine.launch import LaunchOptions, launch
from tickdsl.engine.workers.ray_options import RayOptions
from tickdsl.records.bucket_location import open_cache
from tickdsl.records.bucket_store import open_store
from tickdsl.records.event_decode import EventRecord
from tickdsl.records.events import StepEnd, StepProgress, Warn

pytestmark = pytest.mark.slow

PLAN = """plan 1
model small-cnn width=0.5
data synthetic size=8 train=64 test=32
train 6ep batch=32
seeds 3
prune weights 20%; rewind lr
"""
WITHOUT_BUCKET = 2  # the number of a node that cannot reach it


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url, pytest.MonkeyPatch.context() as patched:
        for name, value in environment(url).items():
            patched.setenv(name, value)
        yield url


@pytest.fixture(scope="module")
def cluster(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nodes, Path]]:
    caches = tmp_path_factory.mktemp("caches")

    def variables(number: int) -> dict[str, str]:
        unreachable = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"} if number == WITHOUT_BUCKET else {}
        return {"TICKDSL_CACHE": str(caches / str(number)), **unreachable}

    nodes = Nodes(variables)
    yield nodes, caches
    nodes.close()


def test_nodes_that_share_a_bucket_give_the_bits_of_one_process(
    tmp_path: Path, cluster: tuple[Nodes, Path], server: str
) -> None:
    """One of the three nodes cannot reach the bucket, which is said by name; another one is lost while it trains."""
    nodes, caches = cluster
    seen = []
    store = open_cache(new_bucket(server), tmp_path / "cache")

    def lose_a_node(record: EventRecord) -> None:
        seen.append(record.event)
        if isinstance(record.event, StepProgress) and len(nodes.nodes) == 3:
            nodes.kill(0)

    options = LaunchOptions(store=store, out=tmp_path / "runs", workers=RayOptions(nodes.address))
    assert launch(plan(PLAN), PLAN, options, lose_a_node).exit == 0
    warnings = [event.message for event in seen if isinstance(event, Warn)]
    assert any("cannot be read" in message for message in warnings), warnings
    done = [event.step for event in seen if isinstance(event, StepEnd) and event.status == "done"]
    assert len(done) == len(set(done))
    assert run(PLAN, tmp_path / "alone", None)[0] == 0
    opened = open_store(store)
    folders = {key: opened.get(key).folder for key in set(opened.keys())}
    weights = {
        key: (folder / "weights.safetensors").read_bytes()
        for key, folder in folders.items()
        if (folder / "weights.safetensors").is_file()
    }
    assert weights == weight_bytes(tmp_path / "alone" / "store")
    used = {cache.name for cache in caches.iterdir() if list(cache.glob("*/results/*/*/weights.safetensors"))}
    assert used and used <= {"0", "1"}
