"""Runs on machines that share nothing but a bucket, which fails at random, lose nothing and repeat nothing."""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
from memory_bucket import MemoryBucket
from simulated_runs import Killed, World, simulate
from test_simulated_runs import folder, study

from tickdsl.records import Process, Store
from tickdsl.records.bucket_location import open_cache
from tickdsl.records.bucket_store import open_store
from tickdsl.records.generations import Generation
from tickdsl.records.process import boot_id

__all__ = ["folder"]
URL = "s3://lab/simulated"


@attrs.define
class BucketWorld(World):
    """Machines with a small cache each, of which processes are killed at any moment, also within a request."""

    has_generations: ClassVar[bool] = False
    numbers_of_runs: ClassVar[tuple[int, ...]] = (2, 2, 3)
    bucket: MemoryBucket = attrs.field(factory=MemoryBucket)
    share: ClassVar[float] = 0.05

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        self.bucket.draw, self.bucket.share = self.draw, self.share
        self.bucket.before_failure = self._kill_sometimes
        clock = types.SimpleNamespace(monotonic=lambda: self.now)
        with self.bucket.connected(), pytest.MonkeyPatch.context() as patched:
            patched.setattr("tickdsl.records.bucket_claims.time", clock)
            patched.setattr("tickdsl.records.bucket_store.time", clock)
            patched.setattr("tickdsl.records.bucket_claims._EXPIRY_SECONDS", 30.0)
            patched.setattr("tickdsl.records.bucket_claims._RENEWAL_SECONDS", 5.0)
            patched.setattr("tickdsl.records.bucket_claims._SURE_SECONDS", 10.0)
            yield

    def this_process(self) -> Process:
        """The machine is part of it: no process sees whether one of another machine is alive."""
        return Process(f"machine-{getattr(self.current, 'machine', 0)}", boot_id(), getattr(self.current, "pid", 1))

    def open_store(self, number: int, generation: Generation | None = None) -> Store:
        self.current.machine = number
        store = open_store(open_cache(URL, self.folder / f"cache-{number}", limit=20_000))
        store.be_patient()
        return store

    def beat(self, store: Store) -> None:
        store.claims.renew()

    def check_store(self) -> None:
        gone = {key for key in self.stored - self._whole() if not self.damaged[key]}
        assert not gone, f"results went: {gone}"
        self.stored |= self._whole()

    def damage(self) -> None:
        """Damage an object of a result."""
        paths = [path for path in self.bucket.paths(URL, "results") if path.split("/")[2] in self.stored]
        if paths:
            path = self.draw.choice(paths)
            content = self.bucket.read(URL, path)
            self.bucket.write(URL, path, self.draw.choice((content[:-1], b"x" + content[1:])))
            self.damaged[path.split("/")[2]] += 1

    def claims_left(self) -> list[str]:
        """None counts: a claim whose release has failed lapses."""
        return []

    def _whole(self) -> set[str]:
        paths = set(self.bucket.paths(URL, "results"))
        whole = set()
        for path in paths:
            if path.endswith("/result.json") and self.bucket.read(URL, path):
                with contextlib.suppress(ValueError, KeyError):
                    files = json.loads(self.bucket.read(URL, path))["files"]
                    place = path.removesuffix("/result.json")
                    assert all(f"{place}/{file['sha256'][:16]}/{name}" in paths for name, file in files.items())
                    whole.add(place.rpartition("/")[2])
        return whole

    def _kill_sometimes(self) -> None:
        if self.draw.random() < 0.02:
            raise Killed


@pytest.mark.parametrize("seed", range(3))
def test_some_machines_on_a_bucket(folder: Path, seed: int) -> None:
    world = simulate(study(seed), folder, seed, BucketWorld)
    assert isinstance(world, BucketWorld)
    assert world.bucket.failures


@pytest.mark.slow
def test_many_machines_on_a_bucket(folder: Path) -> None:
    for seed in range(100, 140):
        try:
            simulate(study(seed), folder / str(seed), seed, BucketWorld)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
