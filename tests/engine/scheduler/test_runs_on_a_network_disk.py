"""Runs on machines that share a network disk, which shows things late and loses answers, lose and repeat nothing."""

from __future__ import annotations

import contextlib
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import attrs
import pytest
from network_disk import NetworkDisk
from simulated_runs import World, simulate
from test_simulated_runs import folder, study

from tickdsl.records import Process, Store
from tickdsl.records.generations import Generation
from tickdsl.records.process import boot_id

__all__ = ["folder"]


@attrs.define
class DiskWorld(World):
    """Machines that share a network disk."""

    has_generations: ClassVar[bool] = False
    numbers_of_runs: ClassVar[tuple[int, ...]] = (2, 2, 3)
    disk: NetworkDisk | None = None

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        self.disk = NetworkDisk(self.store, self.draw, self._machine, self._passing)
        clock = types.SimpleNamespace(monotonic=lambda: self.now)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("tickdsl.records.claims.time", clock)
            patched.setattr("tickdsl.records.claims._EXPIRY_SECONDS", 30.0)
            patched.setattr("tickdsl.patient_reads._DELAYS", (0.0,) * 8)
            patched.setattr("tickdsl.records.process.host_name", lambda: f"machine-{self._machine()}")
            with self.disk.mounted():
                yield

    def _passing(self) -> float:
        """The time, which also passes while a process looks."""
        self.now += 0.002
        return self.now

    def _machine(self) -> int:
        return getattr(self.current, "machine", 0)

    def this_process(self) -> Process:
        return Process(f"machine-{self._machine()}", boot_id(), getattr(self.current, "pid", 1))

    def open_store(self, number: int, generation: Generation | None = None) -> Store:
        self.current.machine = number + 1
        return Store(self.store)

    def beat(self, store: Store) -> None:
        store.claims.renew()

    def damage(self) -> None:
        """Disks damage nothing here: what seems damaged is only late."""

    def claims_left(self) -> list[str]:
        """None counts: a claim whose release has failed lapses."""
        return []


@pytest.mark.parametrize("seed", range(3))
def test_some_machines_on_a_network_disk(folder: Path, seed: int) -> None:
    world = simulate(study(seed), folder, seed, DiskWorld)
    assert isinstance(world, DiskWorld) and world.disk is not None
    assert {"stale absence", "lost reply", "ESTALE"} <= world.disk.counts.keys()


@pytest.mark.slow
def test_many_machines_on_a_network_disk(folder: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(100, 140):
        try:
            world = simulate(study(seed), folder / str(seed), seed, DiskWorld)
            assert isinstance(world, DiskWorld) and world.disk is not None
            counts.update(world.disk.counts)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert {"stale absence", "lost reply", "ESTALE", "stale list"} == counts.keys()
